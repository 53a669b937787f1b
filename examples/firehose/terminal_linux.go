package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// settings are those of a terminal; see termios(3).
type settings unix.Termios

// columns returns the width of the terminal f, and whether it is one.
func columns(f *os.File) (n int, ok bool) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	if size.Col == 0 {
		return 80, true // A serial line, or a terminal that does not know.
	}
	return int(size.Col), true
}

// rawMode has keys read one by one and not shown, and returns what was set.
// Ctrl-C still makes a signal; Ctrl-Z does not, since a stopped program could
// not give the terminal back.
func rawMode(f *os.File) (*settings, error) {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	saved := settings(*t)
	t.Lflag &^= unix.ICANON | unix.ECHO
	t.Cc[unix.VMIN], t.Cc[unix.VTIME], t.Cc[unix.VSUSP] = 1, 0, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, err
	}
	return &saved, nil
}

func (s *settings) apply(f *os.File) {
	_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, (*unix.Termios)(s))
}
