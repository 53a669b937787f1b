package fallback

// queue is a first-in, first-out list that keeps its memory.
type queue[T any] struct {
	ring       []T // a power of two long
	head, size int
}

func (q *queue[T]) push(v T) {
	if q.size == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.size)&(len(q.ring)-1)] = v
	q.size++
}

func (q *queue[T]) pop() T {
	v := q.ring[q.head]
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.size--
	return v
}

func (q *queue[T]) grow() {
	ring := make([]T, max(64, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}
