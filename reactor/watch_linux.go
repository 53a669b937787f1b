package reactor

import "golang.org/x/sys/unix"

// watchable returns why fd cannot be watched, or nil. Files and directories are
// always ready for poll(2), and a watch of one would call without end.
func watchable(fd int) error {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return err
	}
	if kind := s.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
		return unix.EPERM
	}
	return nil
}
