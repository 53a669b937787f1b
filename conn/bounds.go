package conn

// bounds is where the messages in a queue end, for those who drop whole ones. A
// queue has it only when somebody asks, since a stream has no need of it.
type bounds struct {
	left  []int // bytes of each message that the kernel has not taken, in order
	head  int
	begun bool // of the first one it has taken some
}

// add notes a message of n bytes at the end of the queue.
func (b *bounds) add(n int) {
	if n == 0 {
		return
	}
	if b.head > 32 && b.head > len(b.left)/2 {
		b.left = b.left[:copy(b.left, b.left[b.head:])]
		b.head = 0
	}
	b.left = append(b.left, n)
}

// take notes that the kernel has taken n bytes.
func (b *bounds) take(n int) {
	for n > 0 && b.head < len(b.left) {
		k := min(n, b.left[b.head])
		b.left[b.head] -= k
		n -= k
		if b.begun = true; b.left[b.head] == 0 {
			b.head++
			b.begun = false
		}
	}
	if b.head == len(b.left) {
		b.left, b.head = b.left[:0], 0
	}
}

// torn returns how many bytes are left of a message of which the kernel has taken
// a part: 0 when the next byte begins a message.
func (b *bounds) torn() int {
	if !b.begun {
		return 0
	}
	return b.left[b.head]
}
