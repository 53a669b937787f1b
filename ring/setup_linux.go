//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const maxEntries = 32768

// A ring that was closed gives its locked memory back late, 25 to 45 ms on Linux
// 6.18. So New waits a little before it takes fewer entries, and longer before
// it gives up.
const (
	memlockWaitFirst = 5 * time.Millisecond
	memlockWaitLast  = 80 * time.Millisecond
)

func (c Config) check() (Config, error) {
	if c.Entries == 0 {
		c.Entries = DefaultEntries
	}
	if c.Entries > maxEntries {
		return c, fmt.Errorf("ring: %d entries are more than %d", c.Entries, maxEntries)
	}
	if c.CQEntries == 0 {
		c.CQEntries = 4 * c.Entries
	}
	if c.CQEntries < c.Entries || c.CQEntries > 4*maxEntries {
		return c, fmt.Errorf("ring: %d completions for %d entries, want between that and %d", c.CQEntries, c.Entries, 4*maxEntries)
	}
	return c, nil
}

// flagSteps are the setup flags to try, the best first. A kernel answers EINVAL
// to a flag it does not know, so each step leaves the newest one out.
var flagSteps = [...]uint32{
	setupCQSize | setupClamp | setupSubmitAll | setupSingleIssuer | setupDeferTaskrun,
	setupCQSize | setupClamp | setupSubmitAll | setupSingleIssuer | setupCoopTaskrun | setupTaskrunFlag,
	setupCQSize | setupClamp | setupSubmitAll | setupCoopTaskrun | setupTaskrunFlag,
	setupCQSize | setupClamp | setupSubmitAll,
	setupCQSize | setupClamp,
}

// setup calls io_uring_setup(2), with the best flags the kernel knows and, when
// locked memory is short, with fewer entries. It returns what the kernel gave.
func setup(cfg Config, hidden features) (fd int, p params, err error) {
	least := min(cfg.Entries, MinEntries)
	wait := memlockWaitFirst
	for {
		fd, p, err = setupFlags(cfg, hidden)
		switch {
		case !errors.Is(err, unix.ENOMEM):
			return fd, p, err
		case wait > memlockWaitFirst && cfg.Entries/2 >= least:
			cfg.Entries /= 2
			cfg.CQEntries = max(cfg.CQEntries/2, cfg.Entries)
		case wait > memlockWaitLast:
			return -1, p, memlockError("io_uring_setup")
		default:
			time.Sleep(wait)
			wait *= 2
		}
	}
}

func setupFlags(cfg Config, hidden features) (fd int, p params, err error) {
	for _, flags := range flagSteps {
		if flags&hidden.setupFlags() != 0 {
			continue
		}
		p = params{flags: flags, cqEntries: cfg.CQEntries}
		// The pointer is converted in the call itself, which keeps p in place.
		r, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(cfg.Entries), uintptr(unsafe.Pointer(&p)), 0)
		switch errno {
		case 0:
			return int(r), p, nil
		case unix.EINVAL:
			continue // a flag is unknown: peel it
		}
		return -1, p, setupError(errno)
	}
	return -1, p, &UnavailableError{Op: "io_uring_setup", Err: unix.EINVAL,
		Cause: "the kernel knows none of the setups tried, so it is older than 5.6",
		Cure:  "run Linux 6.1 or later"}
}

const descriptorsCure = "raise the limit of open descriptors of the process (ulimit -n, LimitNOFILE=)"

func setupError(errno syscall.Errno) error {
	switch {
	case forbids(errno):
		return refused("io_uring_setup", errno)
	case errno == unix.EMFILE:
		return fmt.Errorf("ring: io_uring_setup: %w; %s", errno, descriptorsCure)
	case errno == unix.ENFILE:
		return fmt.Errorf("ring: io_uring_setup: %w; raise the limit of open files of the system (sysctl fs.file-max)", errno)
	}
	return os.NewSyscallError("ring: io_uring_setup", errno)
}

// mmap maps the queues and finds the counters in them.
func (r *Ring) mmap(p *params) (err error) {
	size := max(p.sqOff.array+p.sqEntries*4, p.cqOff.cqes+p.cqEntries*uint32(unsafe.Sizeof(CQE{})))
	prot, flags := unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE
	if r.rings, err = unix.Mmap(r.fd, offSQRing, int(size), prot, flags); err != nil {
		return os.NewSyscallError("ring: mmap of the queues", err)
	}
	if r.entries, err = unix.Mmap(r.fd, offSQEs, int(p.sqEntries)*int(unsafe.Sizeof(SQE{})), prot, flags); err != nil {
		return os.NewSyscallError("ring: mmap of the entries", err)
	}
	// What the kernel reads in a call that names it, and a time for each entry.
	size = uint32(unsafe.Sizeof(enterArgs{})) + p.sqEntries*uint32(unsafe.Sizeof(unix.Timespec{}))
	if r.private, err = unix.Mmap(-1, 0, int(size), prot, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return os.NewSyscallError("ring: mmap of the arguments", err)
	}
	r.arg = (*enterArgs)(unsafe.Pointer(&r.private[0]))
	r.times = unsafe.Slice((*unix.Timespec)(unsafe.Pointer(&r.private[unsafe.Sizeof(enterArgs{})])), p.sqEntries)

	r.sq.attach(r.rings, r.entries, &p.sqOff, p.sqEntries)
	r.cq.attach(r.rings, &p.cqOff, p.cqEntries)
	return nil
}

// registerFD lets Enter name the ring by an index, which saves the kernel a
// look-up and a reference count. The index belongs to the calling thread; where
// there is none, the plain descriptor serves.
func (r *Ring) registerFD() {
	up := rsrcUpdate{offset: registerRingFDAnyOffset, data: uint64(r.fd)}
	if n, errno := r.register(registerRingFDs, unsafe.Pointer(&up), 1); errno == 0 && n == 1 {
		r.enterFD, r.enterFlags = uintptr(up.offset), r.enterFlags|enterRegisteredRing
		r.have |= featRegisterRingFDs
	}
}

func (r *Ring) unregisterFD() {
	if r.enterFlags&enterRegisteredRing != 0 {
		up := rsrcUpdate{offset: uint32(r.enterFD)}
		_, _ = r.register(unregisterRingFDs, unsafe.Pointer(&up), 1)
		r.enterFD, r.enterFlags = uintptr(r.fd), r.enterFlags&^enterRegisteredRing
	}
}

// register calls io_uring_register(2). arg must outlive the call only.
func (r *Ring) register(op uintptr, arg unsafe.Pointer, n uintptr) (int, syscall.Errno) {
	ret, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, uintptr(arg), n, 0, 0)
	return int(ret), errno
}
