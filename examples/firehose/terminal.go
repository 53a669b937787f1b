package main

import (
	"os"
	"sync"
)

// key is what the user asks for by one.
type key int

const (
	keyQuit key = iota
	keyFaster
	keySlower
	keyPause
)

// terminal is the user's, without echo and lines until restore. The zero value
// is none.
type terminal struct {
	saved *settings // nil: nothing was changed
	once  sync.Once
}

// openTerminal takes the terminal over, if stdin and stdout are one.
func openTerminal() (t *terminal, interactive bool) {
	t = new(terminal)
	if _, ok := columns(os.Stdout); !ok {
		return t, false
	}
	saved, err := rawMode(os.Stdin)
	if err != nil {
		return t, false
	}
	t.saved = saved
	_, _ = os.Stdout.WriteString("\x1b[?25l") // Without the cursor.
	return t, true
}

// restore gives the terminal back as it was. Calling it again does nothing.
func (t *terminal) restore() {
	t.once.Do(func() {
		if t.saved != nil {
			t.saved.apply(os.Stdin)
			_, _ = os.Stdout.WriteString("\x1b[?25h\n")
		}
	})
}

// guard is deferred by every goroutine: a panic of theirs ends the process
// without the deferred calls of main.
func (t *terminal) guard() {
	if value := recover(); value != nil {
		t.restore()
		panic(value)
	}
}

// width returns the columns of the terminal.
func (t *terminal) width() int {
	n, ok := columns(os.Stdout)
	if !ok {
		return 80
	}
	return n
}

// keys reads what is pressed, to the end of the process.
func (t *terminal) keys() <-chan key {
	keys := make(chan key)
	go func() {
		defer t.guard()
		in := make([]byte, 64)
		for {
			n, err := os.Stdin.Read(in)
			if err != nil {
				return
			}
			for _, k := range decode(in[:n]) {
				keys <- k
			}
		}
	}()
	return keys
}

// decode reads keys. Arrows are three bytes, which a terminal sends at once.
func decode(in []byte) (keys []key) {
	for len(in) > 0 {
		n := 1
		switch in[0] {
		case 'q', 'Q':
			keys = append(keys, keyQuit)
		case '+', '=':
			keys = append(keys, keyFaster)
		case '-', '_':
			keys = append(keys, keySlower)
		case ' ':
			keys = append(keys, keyPause)
		case 0x1b:
			if len(in) >= 3 && (in[1] == '[' || in[1] == 'O') {
				n = 3
				switch in[2] {
				case 'A', 'C': // up, right
					keys = append(keys, keyFaster)
				case 'B', 'D': // down, left
					keys = append(keys, keySlower)
				}
			}
		}
		in = in[n:]
	}
	return keys
}
