//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

// featuresOf returns what io_uring_setup itself tells.
func featuresOf(p *params) (f features) {
	for _, b := range []struct {
		word, bit uint32
		feature   features
	}{
		{p.features, featureSingleMmap, featSingleMmap},
		{p.features, featureNoDrop, featNoDrop},
		{p.features, featureSubmitStable, featSubmitStable},
		{p.features, featureFastPoll, featFastPoll},
		{p.features, featureExtArg, featExtArg},
		{p.features, featureCQESkip, featCQESkip},
		{p.features, featureNoIowait, featNoIowait},
		{p.flags, setupSubmitAll, featSubmitAll},
		{p.flags, setupSingleIssuer, featSingleIssuer},
		{p.flags, setupDeferTaskrun, featDeferTaskrun},
		// A kernel with DEFER_TASKRUN has the older flag too.
		{p.flags, setupCoopTaskrun | setupDeferTaskrun, featCoopTaskrun},
	} {
		if b.word&b.bit != 0 {
			f |= b.feature
		}
	}
	return f
}

// setupFlags returns the flags that a kernel without f would not know.
func (f features) setupFlags() (flags uint32) {
	if f&featSubmitAll != 0 {
		flags |= setupSubmitAll
	}
	if f&featCoopTaskrun != 0 {
		flags |= setupCoopTaskrun | setupDeferTaskrun
	}
	if f&featSingleIssuer != 0 {
		flags |= setupSingleIssuer | setupDeferTaskrun
	}
	if f&featDeferTaskrun != 0 {
		flags |= setupDeferTaskrun
	}
	return flags
}

// Features returns what the ring has, as a table that starts with the oldest.
func (r *Ring) Features() []aio.Feature { return r.have.list() }

// Have reports whether the ring has the feature of that name; it has none with
// a name that the package documentation does not list.
func (r *Ring) Have(name string) bool {
	f, err := parseFeatures([]string{name})
	return err == nil && r.have&f != 0
}

// probe asks the kernel for the rest: opcodes by the call made for it, a further
// registration and flags of operations by trying them where they cannot work.
func (r *Ring) probe(hidden features) error {
	var p probe
	if _, errno := r.register(registerProbe, unsafe.Pointer(&p), probeOps); errno != 0 {
		if forbids(errno) {
			return refused("io_uring_register", errno)
		}
		return os.NewSyscallError("ring: io_uring_register of a probe", errno)
	}
	has := func(op uint8) bool { return op <= p.lastOp && p.ops[op].flags&probeOpSupported != 0 }
	for op, f := range map[uint8]features{opMsgRing: featMsgRing, opSendZC: featSendZC, opSendmsgZC: featSendmsgZC} {
		if has(op) {
			r.have |= f
		}
	}
	// A known registration reads its argument and fails with EFAULT at an
	// address that is nobody's; an unknown one fails with EINVAL before.
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerPbufRing, 8, 1, 0, 0); errno == unix.EFAULT {
		r.have |= featBufferRing
	}
	err := r.probeOpFlags(has(opSendZC))
	r.have &^= hidden
	return err
}

// probeOpFlags tries operations with new flags on a descriptor that is no
// socket: the kernel says EINVAL to a flag it does not know, and ENOTSOCK after
// it has accepted the flags.
func (r *Ring) probeOpFlags(zc bool) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("ring: eventfd", err)
	}
	defer unix.Close(fd)
	tries := []features{featAcceptMultishot, featRecvMultishot, featRecvMultishotLimit, featSendZCReportUsage}
	if !zc {
		tries = tries[:3]
	}
	for _, f := range tries {
		s := r.SQE()
		switch f {
		case featAcceptMultishot:
			s.PrepAcceptMultishot(int32(fd), 0)
		case featRecvMultishot:
			s.PrepRecvMultishot(int32(fd), 0, 0)
		case featRecvMultishotLimit:
			s.PrepRecvMultishot(int32(fd), 0, 0)
			s.LimitRecv(1)
		case featSendZCReportUsage:
			s.PrepSendZC(int32(fd), nil, 0, SendZCReportUsage)
		}
		s.UserData = uint64(f)
		if err := r.probeAnswers(); err != nil {
			return err
		}
	}
	return nil
}

// probeAnswers reads what comes for one operation: its result, and a
// notification when a zero-copy send fails late.
func (r *Ring) probeAnswers() error {
	for due := 1; due > 0; {
		if _, err := r.Enter(1, selfTestPatience); err != nil {
			return enterRefused(err)
		}
		if r.Ready() == 0 {
			return errors.New("ring: the kernel does not answer a probe")
		}
		for ; r.Ready() > 0; r.Advance(1) {
			c := r.CQE(0)
			if c.Res == -int32(unix.EMFILE) || c.Res == -int32(unix.ENFILE) { // An accept takes its descriptor first.
				return os.NewSyscallError("ring: accept as a probe", syscall.Errno(-c.Res))
			}
			if c.Res == -int32(unix.ENOTSOCK) && !c.Notif() {
				r.have |= features(c.UserData)
			}
			if due--; c.More() {
				due++
			}
		}
	}
	return nil
}

// enterRefused recognises a filter that lets a ring be made but not used.
func enterRefused(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) && forbids(errno) {
		return refused("io_uring_enter", errno)
	}
	return err
}
