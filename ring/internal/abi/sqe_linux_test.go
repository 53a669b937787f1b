//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

// wire is an entry by the kernel's names; what is not named is zero.
type wire map[string]int64

// unions gives the other names of the members of struct io_uring_sqe.
var unions = map[string]string{
	"addr2": "off", "splice_off_in": "addr",
	"msg_flags": "rw_flags", "accept_flags": "rw_flags", "cancel_flags": "rw_flags",
	"timeout_flags": "rw_flags", "poll32_events": "rw_flags", "splice_flags": "rw_flags",
	"msg_ring_flags": "rw_flags", "open_flags": "rw_flags",
	"buf_group": "buf_index", "file_index": "splice_fd_in",
}

// members are the members of struct io_uring_sqe.
var members = layouts[0].fields

// bytes lays the entry out by the table of layouts, not by any Go structure.
func (w wire) bytes() (b [64]byte) {
	for name, v := range w {
		if base, ok := unions[name]; ok {
			name = base
		}
		i := slices.IndexFunc(members, func(f field) bool { return f.c == name })
		if i < 0 {
			panic("struct io_uring_sqe has no " + name)
		}
		at := b[members[i].off:]
		switch members[i].size {
		case 1:
			at[0] = byte(v)
		case 2:
			binary.LittleEndian.PutUint16(at, uint16(v))
		case 4:
			binary.LittleEndian.PutUint32(at, uint32(v))
		case 8:
			binary.LittleEndian.PutUint64(at, uint64(v))
		}
	}
	return b
}

// differ returns the members in which two entries differ.
func differ(a, b [64]byte) []string {
	var names []string
	for _, f := range members {
		if !slices.Equal(a[f.off:][:f.size], b[f.off:][:f.size]) {
			names = append(names, f.c)
		}
	}
	return names
}

// objects are what operations point to. They stay on the heap, where Go does
// not move them, as long as the addresses are compared.
type objects struct {
	buf   []byte
	msg   unix.Msghdr
	ts    unix.Timespec
	name  unix.RawSockaddrAny
	len   uint32
	iface syscall.Sockaddr
}

func newObjects() *objects {
	return &objects{buf: make([]byte, 100), iface: &syscall.SockaddrInet4{Port: 1}}
}

func at[T any](p *T) int64 { return int64(uintptr(unsafe.Pointer(p))) }

// prep is one preparation: what it must give, and how the others make it.
type prep struct {
	name   string // of our method, then what makes the case another one
	ours   func(*ring.SQE)
	want   wire                                 // from the manual page of the function in c
	theirs func(*giouring.SubmissionQueueEntry) // nil where giouring has none
	wrong  []string                             // the members that giouring gets wrong, see README.md
	c      string                               // liburing's
}

const (
	fd   = 7
	user = 0x1122334455667788
)

// preps returns every preparation of ring. The operands are chosen so that no
// two members have the same value.
func preps(o *objects) []prep {
	return slices.Concat(networkPreps(o), zeroCopyPreps(o), controlPreps(o), filePreps(o))
}

type entry = giouring.SubmissionQueueEntry

func networkPreps(o *objects) []prep {
	buf, msg := at(&o.buf[0]), at(&o.msg)
	name, size := at(&o.name), at(&o.len)
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	const waitall = unix.MSG_WAITALL
	return []prep{
		{"Accept", func(s *ring.SQE) { s.PrepAccept(fd, &o.name, &o.len, flags) },
			wire{"opcode": 13, "fd": fd, "addr": name, "addr2": size, "accept_flags": flags},
			func(e *entry) { e.PrepareAccept(fd, uintptr(name), uint64(size), flags) }, nil,
			fmt.Sprintf("io_uring_prep_accept(sqe, %d, (void *)%#x, (void *)%#x, %d)", fd, name, size, flags)},
		{"Accept, no name", func(s *ring.SQE) { s.PrepAccept(fd, nil, nil, 0) },
			wire{"opcode": 13, "fd": fd},
			func(e *entry) { e.PrepareAccept(fd, 0, 0, 0) }, nil,
			fmt.Sprintf("io_uring_prep_accept(sqe, %d, NULL, NULL, 0)", fd)},
		{"AcceptMultishot", func(s *ring.SQE) { s.PrepAcceptMultishot(fd, flags) },
			wire{"opcode": 13, "fd": fd, "accept_flags": flags, "ioprio": 1},
			func(e *entry) { e.PrepareMultishotAccept(fd, 0, 0, flags) }, nil,
			fmt.Sprintf("io_uring_prep_multishot_accept(sqe, %d, NULL, NULL, %d)", fd, flags)},
		{"Recv", func(s *ring.SQE) { s.PrepRecv(fd, o.buf, waitall) },
			wire{"opcode": 27, "fd": fd, "addr": buf, "len": 100, "msg_flags": waitall},
			func(e *entry) { e.PrepareRecv(fd, uintptr(buf), 100, waitall) }, nil,
			fmt.Sprintf("io_uring_prep_recv(sqe, %d, (void *)%#x, 100, %d)", fd, buf, waitall)},
		// The flag and the group are set by the caller in C, and in giouring.
		{"RecvMultishot", func(s *ring.SQE) { s.PrepRecvMultishot(fd, 9, unix.MSG_NOSIGNAL) },
			wire{"opcode": 27, "fd": fd, "ioprio": 2, "msg_flags": unix.MSG_NOSIGNAL, "flags": 0x20, "buf_group": 9},
			func(e *entry) {
				e.PrepareRecvMultishot(fd, 0, 0, unix.MSG_NOSIGNAL)
				e.Flags, e.BufIG = giouring.SqeBufferSelect, 9
			}, nil,
			fmt.Sprintf("io_uring_prep_recv_multishot(sqe, %d, NULL, 0, %d); "+
				"sqe->flags |= IOSQE_BUFFER_SELECT; sqe->buf_group = 9", fd, unix.MSG_NOSIGNAL)},
		{"Send", func(s *ring.SQE) { s.PrepSend(fd, o.buf, waitall) },
			wire{"opcode": 26, "fd": fd, "addr": buf, "len": 100, "msg_flags": waitall},
			func(e *entry) { e.PrepareSend(fd, uintptr(buf), 100, waitall) }, nil,
			fmt.Sprintf("io_uring_prep_send(sqe, %d, (void *)%#x, 100, %d)", fd, buf, waitall)},
		{"Sendmsg", func(s *ring.SQE) { s.PrepSendmsg(fd, &o.msg, waitall) },
			wire{"opcode": 9, "fd": fd, "addr": msg, "len": 1, "msg_flags": waitall},
			func(e *entry) { e.PrepareSendMsg(fd, (*syscall.Msghdr)(unsafe.Pointer(&o.msg)), waitall) }, nil,
			fmt.Sprintf("io_uring_prep_sendmsg(sqe, %d, (void *)%#x, %d)", fd, msg, waitall)},
		{"Recvmsg", func(s *ring.SQE) { s.PrepRecvmsg(fd, &o.msg, unix.MSG_DONTWAIT) },
			wire{"opcode": 10, "fd": fd, "addr": msg, "len": 1, "msg_flags": unix.MSG_DONTWAIT},
			func(e *entry) { e.PrepareRecvMsg(fd, (*syscall.Msghdr)(unsafe.Pointer(&o.msg)), unix.MSG_DONTWAIT) }, nil,
			fmt.Sprintf("io_uring_prep_recvmsg(sqe, %d, (void *)%#x, %d)", fd, msg, unix.MSG_DONTWAIT)},
		// giouring takes a pointer to a Go interface, and hands that on.
		{"Connect", func(s *ring.SQE) { s.PrepConnect(fd, &o.name, 28) },
			wire{"opcode": 16, "fd": fd, "addr": name, "addr2": 28},
			func(e *entry) { e.PrepareConnect(fd, &o.iface, 28) }, []string{"addr"},
			fmt.Sprintf("io_uring_prep_connect(sqe, %d, (void *)%#x, 28)", fd, name)},
		{"Shutdown", func(s *ring.SQE) { s.PrepShutdown(fd, unix.SHUT_RDWR) },
			wire{"opcode": 34, "fd": fd, "len": unix.SHUT_RDWR},
			func(e *entry) { e.PrepareShutdown(fd, unix.SHUT_RDWR) }, nil,
			fmt.Sprintf("io_uring_prep_shutdown(sqe, %d, SHUT_RDWR)", fd)},
	}
}

func zeroCopyPreps(o *objects) []prep {
	buf, msg := at(&o.buf[0]), at(&o.msg)
	const (
		waitall = unix.MSG_WAITALL
		zc      = ring.SendZCReportUsage | ring.RecvsendPollFirst
	)
	return []prep{
		// giouring gives the address of its own copy of the slice header.
		{"SendZC", func(s *ring.SQE) { s.PrepSendZC(fd, o.buf, waitall, zc) },
			wire{"opcode": 47, "fd": fd, "addr": buf, "len": 100, "msg_flags": waitall, "ioprio": 9},
			func(e *entry) { e.PrepareSendZC(fd, o.buf, waitall, zc) }, []string{"addr"},
			fmt.Sprintf("io_uring_prep_send_zc(sqe, %d, (void *)%#x, 100, %d, %d)", fd, buf, waitall, zc)},
		// Flags of zero copy are set by the caller in C, and in giouring.
		{"SendmsgZC", func(s *ring.SQE) { s.PrepSendmsgZC(fd, &o.msg, waitall, zc) },
			wire{"opcode": 48, "fd": fd, "addr": msg, "len": 1, "msg_flags": waitall, "ioprio": 9},
			func(e *entry) {
				e.PrepareSendmsgZC(fd, (*syscall.Msghdr)(unsafe.Pointer(&o.msg)), waitall)
				e.IoPrio = zc
			}, nil,
			fmt.Sprintf("io_uring_prep_sendmsg_zc(sqe, %d, (void *)%#x, %d); sqe->ioprio = %d", fd, msg, waitall, zc)},
	}
}

func controlPreps(o *objects) []prep {
	ts := at(&o.ts)
	const abs = ring.TimeoutAbs
	return []prep{
		{"Nop", (*ring.SQE).PrepNop,
			wire{"opcode": 0, "fd": -1},
			(*entry).PrepareNop, nil,
			"io_uring_prep_nop(sqe)"},
		{"Cancel", func(s *ring.SQE) { s.PrepCancel(user, ring.CancelAll) },
			wire{"opcode": 14, "fd": -1, "addr": user, "cancel_flags": 1},
			func(e *entry) { e.PrepareCancel64(user, int(giouring.AsyncCancelAll)) }, nil,
			fmt.Sprintf("io_uring_prep_cancel64(sqe, %#xULL, IORING_ASYNC_CANCEL_ALL)", user)},
		{"CancelFD", func(s *ring.SQE) { s.PrepCancelFD(fd, ring.CancelAll) },
			wire{"opcode": 14, "fd": fd, "cancel_flags": 1 | 2},
			func(e *entry) { e.PrepareCancelFd(fd, giouring.AsyncCancelAll) }, nil,
			fmt.Sprintf("io_uring_prep_cancel_fd(sqe, %d, IORING_ASYNC_CANCEL_ALL)", fd)},
		{"CancelAny", (*ring.SQE).PrepCancelAny,
			wire{"opcode": 14, "fd": -1, "cancel_flags": 1 | 4},
			func(e *entry) { e.PrepareCancel64(0, int(giouring.AsyncCancelAll|giouring.AsyncCancelAny)) }, nil,
			"io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)"},
		// giouring gives the address of its own copy of the pointer.
		{"Timeout", func(s *ring.SQE) { s.PrepTimeout(&o.ts, 3, abs) },
			wire{"opcode": 11, "fd": -1, "addr": ts, "len": 1, "off": 3, "timeout_flags": 1},
			func(e *entry) { e.PrepareTimeout((*syscall.Timespec)(unsafe.Pointer(&o.ts)), 3, abs) }, []string{"addr"},
			fmt.Sprintf("io_uring_prep_timeout(sqe, (void *)%#x, 3, IORING_TIMEOUT_ABS)", ts)},
		// giouring takes a time instead of the user data, and gives the address of
		// a variable that ends with the call.
		{"TimeoutRemove", func(s *ring.SQE) { s.PrepTimeoutRemove(user, 0) },
			wire{"opcode": 12, "fd": -1, "addr": user},
			func(e *entry) { e.PrepareTimeoutRemove(time.Second, 0, 0) }, []string{"addr", "len"},
			fmt.Sprintf("io_uring_prep_timeout_remove(sqe, %#xULL, 0)", user)},
		// The same: the address of a variable that ends with the call.
		{"TimeoutUpdate", func(s *ring.SQE) { s.PrepTimeoutUpdate(&o.ts, user, abs) },
			wire{"opcode": 12, "fd": -1, "addr": user, "off": ts, "timeout_flags": 3},
			func(e *entry) { e.PrepareTimeoutUpdate(time.Second, 0, abs) }, []string{"off", "addr", "len"},
			fmt.Sprintf("io_uring_prep_timeout_update(sqe, (void *)%#x, %#xULL, IORING_TIMEOUT_ABS)", ts, user)},
		{"LinkTimeout", func(s *ring.SQE) { s.PrepLinkTimeout(&o.ts, abs) },
			wire{"opcode": 15, "fd": -1, "addr": ts, "len": 1, "timeout_flags": 1},
			func(e *entry) { e.PrepareLinkTimeout(time.Second, abs) }, []string{"addr"},
			fmt.Sprintf("io_uring_prep_link_timeout(sqe, (void *)%#x, IORING_TIMEOUT_ABS)", ts)},
		{"PollAdd", func(s *ring.SQE) { s.PrepPollAdd(fd, unix.POLLIN|unix.POLLRDHUP) },
			wire{"opcode": 6, "fd": fd, "poll32_events": unix.POLLIN | unix.POLLRDHUP},
			func(e *entry) { e.PreparePollAdd(fd, unix.POLLIN|unix.POLLRDHUP) }, nil,
			fmt.Sprintf("io_uring_prep_poll_add(sqe, %d, %d)", fd, unix.POLLIN|unix.POLLRDHUP)},
		{"PollAddMultishot", func(s *ring.SQE) { s.PrepPollAddMultishot(fd, unix.POLLOUT) },
			wire{"opcode": 6, "fd": fd, "poll32_events": unix.POLLOUT, "len": 1},
			func(e *entry) { e.PreparePollMultishot(fd, unix.POLLOUT) }, nil,
			fmt.Sprintf("io_uring_prep_poll_multishot(sqe, %d, %d)", fd, unix.POLLOUT)},
		{"PollRemove", func(s *ring.SQE) { s.PrepPollRemove(user) },
			wire{"opcode": 7, "fd": -1, "addr": user},
			func(e *entry) { e.PreparePollRemove(user) }, nil,
			fmt.Sprintf("io_uring_prep_poll_remove(sqe, %#xULL)", user)},
		{"MsgRing", func(s *ring.SQE) { s.PrepMsgRing(fd, 5, user) },
			wire{"opcode": 40, "fd": fd, "len": 5, "off": user},
			func(e *entry) { e.PrepareMsgRing(fd, 5, user, 0) }, nil,
			fmt.Sprintf("io_uring_prep_msg_ring(sqe, %d, 5, %#xULL, 0)", fd, user)},
	}
}

func filePreps(o *objects) []prep {
	buf := at(&o.buf[0])
	return []prep{
		{"Close", func(s *ring.SQE) { s.PrepClose(fd) },
			wire{"opcode": 19, "fd": fd},
			func(e *entry) { e.PrepareClose(fd) }, nil,
			fmt.Sprintf("io_uring_prep_close(sqe, %d)", fd)},
		{"Read", func(s *ring.SQE) { s.PrepRead(fd, o.buf, 1<<40) },
			wire{"opcode": 22, "fd": fd, "addr": buf, "len": 100, "off": 1 << 40},
			func(e *entry) { e.PrepareRead(fd, uintptr(buf), 100, 1<<40) }, nil,
			fmt.Sprintf("io_uring_prep_read(sqe, %d, (void *)%#x, 100, 1ULL << 40)", fd, buf)},
		{"Read, current offset", func(s *ring.SQE) { s.PrepRead(fd, o.buf, ring.CurrentOffset) },
			wire{"opcode": 22, "fd": fd, "addr": buf, "len": 100, "off": -1},
			func(e *entry) { e.PrepareRead(fd, uintptr(buf), 100, ring.CurrentOffset) }, nil,
			fmt.Sprintf("io_uring_prep_read(sqe, %d, (void *)%#x, 100, -1)", fd, buf)},
		{"Write", func(s *ring.SQE) { s.PrepWrite(fd, o.buf, 1<<40) },
			wire{"opcode": 23, "fd": fd, "addr": buf, "len": 100, "off": 1 << 40},
			func(e *entry) { e.PrepareWrite(fd, uintptr(buf), 100, 1<<40) }, nil,
			fmt.Sprintf("io_uring_prep_write(sqe, %d, (void *)%#x, 100, 1ULL << 40)", fd, buf)},
		{"Splice", func(s *ring.SQE) { s.PrepSplice(5, 40, fd, ring.CurrentOffset, 6000, unix.SPLICE_F_MOVE) },
			wire{"opcode": 30, "fd": fd, "off": -1, "splice_off_in": 40, "splice_fd_in": 5, "len": 6000,
				"splice_flags": unix.SPLICE_F_MOVE},
			func(e *entry) { e.PrepareSplice(5, 40, fd, -1, 6000, unix.SPLICE_F_MOVE) }, nil,
			fmt.Sprintf("io_uring_prep_splice(sqe, 5, 40, %d, -1, 6000, %d)", fd, unix.SPLICE_F_MOVE)},
	}
}

// prepare returns the 64 bytes that a preparation leaves in a zeroed entry.
func (p *prep) prepare() [64]byte {
	s := new(ring.SQE)
	p.ours(s)
	return *(*[64]byte)(unsafe.Pointer(s)) // SQE has 64 bytes, TestLinked sees to it
}

func (p *prep) giouring() [64]byte {
	e := new(entry)
	p.theirs(e)
	return *(*[64]byte)(unsafe.Pointer(e)) // the same
}

// TestPreps holds the bytes of each of our preparations to the manual pages, and
// giouring's too: they are right, or wrong in exactly the members that we name.
func TestPreps(t *testing.T) {
	for _, p := range preps(newObjects()) {
		t.Run(p.name, func(t *testing.T) {
			want := p.want.bytes()
			if got := p.prepare(); got != want {
				t.Errorf("ring differs in %q\ngot  %x\nwant %x", differ(got, want), got, want)
			}
			if p.theirs == nil {
				return
			}
			got := p.giouring()
			switch wrong := differ(got, want); {
			case slices.Equal(wrong, p.wrong):
			case len(wrong) == 0:
				t.Errorf("giouring is mended: it was wrong in %q; take that off here and in README.md", p.wrong)
			default:
				t.Errorf("giouring differs in %q, and is known for %q\ngot  %x\nwant %x", wrong, p.wrong, got, want)
			}
		})
	}
}

// TestPrepsComplete keeps the table from falling behind the methods.
func TestPrepsComplete(t *testing.T) {
	listed := map[string]bool{}
	for _, p := range preps(newObjects()) {
		name, _, _ := strings.Cut(p.name, ",")
		listed["Prep"+name] = true
	}
	typ := reflect.TypeFor[*ring.SQE]()
	for m := range typ.NumMethod() {
		if name := typ.Method(m).Name; strings.HasPrefix(name, "Prep") && !listed[name] {
			t.Errorf("%s has no row in the table", name)
		}
		delete(listed, typ.Method(m).Name)
	}
	for name := range listed {
		t.Errorf("there is no method %s", name)
	}
}

// TestEmptyBuffer holds that a buffer of no bytes is none, whatever it points to.
func TestEmptyBuffer(t *testing.T) {
	var s ring.SQE
	s.PrepSend(fd, nil, 0)
	if want := (wire{"opcode": 26, "fd": fd}).bytes(); *(*[64]byte)(unsafe.Pointer(&s)) != want {
		t.Errorf("a send of nil has address %#x, length %d", s.Addr, s.Len)
	}
}
