package conn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// How long a start waits for the lock of a directory, and how long a socket that
// refuses is given to listen after all.
const (
	lockStart = time.Second
	bindGrace = 10 * time.Millisecond
)

// socketFile is the file of a listening unix socket, as it was made.
type socketFile struct {
	path     string // absolute: the process may go to another directory
	dev, ino uint64
}

// listenUnix returns a socket that listens under a name, and its file, which is
// nil for an abstract name.
func listenUnix(name string, cfg Config) (fd int, file *socketFile, err error) {
	if err := checkUnixName(name); err != nil {
		return -1, nil, err
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, os.NewSyscallError("socket", err)
	}
	if name[0] == '@' {
		if err = bindUnix(fd, name); err == nil {
			err = os.NewSyscallError("listen", unix.Listen(fd, cfg.Backlog))
		}
	} else {
		file, err = listenFile(fd, name, cfg)
	}
	if err != nil {
		closeSocket(fd)
		return -1, nil, err
	}
	return fd, file, nil
}

func bindUnix(fd int, name string) error {
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: name}))
}

// listenFile has fd listen at a path. From the look at what is there to the
// listen that makes it live, the directory is locked: of two servers that start
// at once, the second finds a live one, and never takes the first one's file,
// bound and not yet live, for a stale one.
func listenFile(fd int, name string, cfg Config) (*socketFile, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	unlock, locked := lockDir(filepath.Dir(path), lockStart)
	defer unlock()
	if cfg.Mode != 0 {
		// The file gets the mode of the socket less the umask: never more, at
		// no moment, than what is asked for.
		if err := unix.Fchmod(fd, uint32(cfg.Mode.Perm())); err != nil {
			return nil, os.NewSyscallError("fchmod", err)
		}
	}
	err = bindUnix(fd, name)
	if errors.Is(err, unix.EADDRINUSE) {
		if err = removeStale(name, path, locked); err == nil {
			err = bindUnix(fd, name)
		}
	}
	if err != nil {
		return nil, err
	}
	f, err := claim(path, cfg.Mode)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, cfg.Backlog); err != nil {
		f.unlink()
		return nil, os.NewSyscallError("listen", err)
	}
	return f, nil
}

// lockDir locks a directory against others who do the same, for up to patience.
// Where the directory cannot be locked, because it may not be read, its file system
// has no locks, or somebody keeps it locked, which anybody can who may read it,
// locked is false.
func lockDir(dir string, patience time.Duration) (unlock func(), locked bool) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}, false
	}
	unlock = func() { closeSocket(fd) }
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return unlock, true
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR), time.Now().After(end):
			return unlock, false
		}
	}
}

// removeStale removes the socket at path, which is name from here, if nobody
// listens there. Whatever is no socket stays.
func removeStale(name, path string, locked bool) error {
	was, err := lookAt(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	}
	for range 2 {
		switch err := probe(name); {
		case errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.ECONNREFUSED): // It is live, or we may not know.
			return os.NewSyscallError("bind", unix.EADDRINUSE)
		}
		time.Sleep(bindGrace) // Who does not lock is between its bind and its listen for a moment.
	}
	if !locked {
		return fmt.Errorf("nobody listens at the socket that is there, but its directory cannot be locked to replace it: %w", unix.EADDRINUSE)
	}
	if now, err := lookAt(path); err != nil || now != was {
		return os.NewSyscallError("bind", unix.EADDRINUSE)
	}
	return os.NewSyscallError("unlink", unix.Unlink(path))
}

// probe connects without waiting, and tells why not.
func probe(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeSocket(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// lookAt returns the socket at path.
func lookAt(path string) (socketFile, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return socketFile{}, os.NewSyscallError("lstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return socketFile{}, fmt.Errorf("what is there is no socket: %w", unix.EEXIST)
	}
	return socketFile{path, uint64(st.Dev), uint64(st.Ino)}, nil
}

// claim remembers the file that was just bound, and gives it its mode where the
// umask took some of it.
func claim(path string, mode fs.FileMode) (*socketFile, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	defer closeSocket(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	f := &socketFile{path, uint64(st.Dev), uint64(st.Ino)}
	if perm := uint32(mode.Perm()); mode != 0 && st.Mode&0o777 != perm {
		// By descriptor: the path could have become something else meanwhile.
		if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), perm); err != nil {
			f.unlink()
			return nil, os.NewSyscallError("chmod", err)
		}
	}
	return f, nil
}

// remove removes the file if it is still the one that was made here. The socket
// must still listen: so nobody who looks takes the file for a stale one and puts
// another in its place meanwhile, and no other can have its number.
func (f *socketFile) remove() {
	if f != nil {
		f.unlink()
	}
}

func (f *socketFile) unlink() {
	if now, err := lookAt(f.path); err == nil && now == *f {
		_ = unix.Unlink(f.path)
	}
}

// setSendBuffer sets the kernel's buffer of a unix socket that was accepted:
// it has nothing from the one that listens.
func setSendBuffer(fd, bytes int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}
