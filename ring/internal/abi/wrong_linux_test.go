//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"errors"
	"reflect"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// What is wrong in giouring beside the rows of TestPreps. Each test shows one
// mistake, and fails when it is gone: then the list in README.md is to be cut.

const mended = "giouring is mended: take this off the list in README.md"

// TestWrongHeaders shows preparations that give the kernel the address of a
// slice header on the stack, where it expects the bytes.
func TestWrongHeaders(t *testing.T) {
	b := []byte("/some/path\x00")
	var to syscall.Sockaddr = &syscall.SockaddrInet4{}
	var statx unix.Statx_t
	for name, make := range map[string]func(*entry){
		"PrepareSendZC":      func(e *entry) { e.PrepareSendZC(fd, b, 0, 0) },
		"PrepareSendZCFixed": func(e *entry) { e.PrepareSendZCFixed(fd, b, 0, 0, 0) },
		"PrepareSendto":      func(e *entry) { e.PrepareSendto(fd, b, 0, &to, 16) },
		"PrepareOpenat":      func(e *entry) { e.PrepareOpenat(fd, b, 0, 0) },
		"PrepareOpenat2":     func(e *entry) { e.PrepareOpenat2(fd, b, &unix.OpenHow{}) },
		"PrepareStatx":       func(e *entry) { e.PrepareStatx(fd, b, 0, 0, &statx) },
		"PrepareMkdirat":     func(e *entry) { e.PrepareMkdirat(fd, b, 0) },
		"PrepareLinkat":      func(e *entry) { e.PrepareLinkat(fd, b, fd, b, 0) },
		"PrepareSymlinkat":   func(e *entry) { e.PrepareSymlinkat(b, fd, b) },
		"PrepareRenameat":    func(e *entry) { e.PrepareRenameat(fd, b, fd, b, 0) },
		"PrepareFgetxattr":   func(e *entry) { e.PrepareFgetxattr(fd, b, b) },
		"PrepareFsetxattr":   func(e *entry) { e.PrepareFsetxattr(fd, b, b, 0) },
		"PrepareGetxattr":    func(e *entry) { e.PrepareGetxattr(b, b, b) },
		"PrepareSetxattr":    func(e *entry) { e.PrepareSetxattr(b, b, b, 0, 0) },
	} {
		e := new(entry)
		if make(e); int64(e.Addr) == at(&b[0]) {
			t.Errorf("%s: %s", name, mended)
		}
	}
}

// TestWrongFilesUpdate shows that it gives the address of the slice header too,
// of elements of eight bytes. The kernel reads an array of __s32:
// io_uring_prep_files_update(3).
func TestWrongFilesUpdate(t *testing.T) {
	fds := []int{5, 6}
	want := wire{"opcode": 20, "fd": -1, "addr": at(&fds[0]), "len": 2, "off": 3}.bytes()
	e := new(entry)
	e.PrepareFilesUpdate(fds, 3)
	if wrong := differ(*(*[64]byte)(unsafe.Pointer(e)), want); len(wrong) == 0 {
		t.Error(mended)
	} else if len(wrong) != 1 || wrong[0] != "addr" {
		t.Errorf("differs in %q, and is known for addr", wrong)
	}
	elem := reflect.TypeOf((*entry).PrepareFilesUpdate).In(1).Elem()
	if elem.Size() == 4 {
		t.Error("its elements: " + mended)
	}
}

// TestWrongOperations shows preparations of another operation than they say.
func TestWrongOperations(t *testing.T) {
	const opOpenat2 = 28
	e := new(entry)
	if e.PrepareOpenat2(fd, []byte{0}, &unix.OpenHow{}); e.OpCode == opOpenat2 {
		t.Error("PrepareOpenat2 makes an openat: " + mended)
	}
	// cmd_op is the low half of off, where the machine is little endian.
	e = new(entry)
	if e.PrepareCmdSock(giouring.SocketUringOpSiocoutq, fd, 0, 0, nil, 0); uint32(e.Off) == giouring.SocketUringOpSiocoutq {
		t.Error("PrepareCmdSock puts the command into the wrong half: " + mended)
	}
	// addr is the command itself: io_uring_prep_msg_ring_fd(3).
	e = new(entry)
	if e.PrepareMsgRingFd(fd, 1, 2, user, 0); e.Addr == uint64(giouring.MsgSendFd) {
		t.Error("PrepareMsgRingFd gives an address for the command: " + mended)
	}
}

// TestWrongStaleFlags shows that a preparation leaves what the entry held before
// in its last members, and GetSQE does not clear them either. So a close in the
// place of an earlier send carries its flags, and the kernel refuses it. liburing
// clears them in io_uring_prep_rw; our Ring.SQE hands out zeroed entries.
func TestWrongStaleFlags(t *testing.T) {
	e := &entry{OpcodeFlags: unix.MSG_NOSIGNAL, Addr3: 1}
	e.PrepareClose(fd)
	switch wrong := differ(*(*[64]byte)(unsafe.Pointer(e)), wire{"opcode": 19, "fd": fd}.bytes()); {
	case len(wrong) == 0:
		t.Error(mended)
	case len(wrong) != 2 || wrong[0] != "rw_flags" || wrong[1] != "addr3":
		t.Errorf("left over are %q, and known are rw_flags and addr3", wrong)
	}
}

// TestWrongBufRing shows that the place of an entry is computed in 16 bits, so
// that rings of more than 4096 entries of 16 bytes write over themselves.
func TestWrongBufRing(t *testing.T) {
	misplaced := func(n int) (count int) {
		bufs := make([]giouring.BufAndRing, n)
		for i := range n {
			bufs[0].BufRingAdd(uintptr(i)<<12, 1<<12, uint16(i), giouring.BufRingMask(uint32(n)), i)
		}
		for i := range bufs {
			if bufs[i].Addr != uint64(i)<<12 || bufs[i].Bid != uint16(i) {
				count++
			}
		}
		return count
	}
	if n := misplaced(4096); n != 0 {
		t.Errorf("%d of 4096 entries are misplaced; known is that such a ring works", n)
	}
	if misplaced(8192) == 0 {
		t.Error(mended)
	}
}

// TestWrongParams shows that no member of Params can be set from outside, so
// that nobody can ask for a length of the completion queue.
func TestWrongParams(t *testing.T) {
	for i, typ := 0, reflect.TypeFor[giouring.Params](); i < typ.NumField(); i++ {
		if typ.Field(i).IsExported() {
			t.Errorf("Params.%s: %s", typ.Field(i).Name, mended)
		}
	}
}

// TestWrongSetup shows that its error is an errno in an interface, never nil.
func TestWrongSetup(t *testing.T) {
	needUring(t)
	fd, err := giouring.Setup(4, &giouring.Params{})
	if err == nil {
		t.Error(mended)
	} else if !errors.Is(err, syscall.Errno(0)) {
		t.Fatal(err)
	}
	must(t, unix.Close(int(fd)))
}

// theirRing opens a ring of giouring's, to be closed at the end.
func theirRing(t *testing.T) *giouring.Ring {
	t.Helper()
	needUring(t)
	r, err := giouring.CreateRing(8)
	must(t, err)
	t.Cleanup(r.QueueExit)
	return r
}

// TestWrongPeekBatch shows that the end of the batch is computed before it is cut
// to what is there: the slice is filled whole, with completions of the past or
// the future.
func TestWrongPeekBatch(t *testing.T) {
	r := theirRing(t)
	for range 2 {
		r.GetSQE().PrepareNop()
	}
	if _, err := r.SubmitAndWait(2); err != nil {
		t.Fatal(err)
	}
	cqes := make([]*giouring.CompletionQueueEvent, 10)
	n, filled := r.PeekBatchCQE(cqes), 0
	for _, c := range cqes {
		if c != nil {
			filled++
		}
	}
	if n != 2 {
		t.Errorf("%d completions, want 2", n)
	}
	if filled == 2 {
		t.Error(mended)
	}
	r.CQAdvance(n)
}

// TestWrongErrors shows calls that keep the kernel's error to themselves.
func TestWrongErrors(t *testing.T) {
	r := theirRing(t)
	// A table of no files is EINVAL: io_uring_register(2).
	reg := giouring.RsrcRegister{Flags: giouring.RsrcRegisterSparse}
	size := uint32(unsafe.Sizeof(reg))
	if _, errno := r.Register(r.RingFd(), giouring.RegisterFiles2, unsafe.Pointer(&reg), size); errno != unix.EINVAL {
		t.Fatalf("the kernel says %v, want EINVAL", errno)
	}
	if _, err := r.RegisterFilesSparse(0); err != nil {
		t.Error("RegisterFilesSparse: " + mended)
	}
	if _, err := r.RegisterFiles([]int{1 << 30}); err != nil { // no such descriptor
		t.Error("RegisterFiles: " + mended)
	}
}

// TestWrongBufRingFlags shows that SetupBufRing drops the flags it is given: no
// kernel knows all of these.
func TestWrongBufRingFlags(t *testing.T) {
	r := theirRing(t)
	if _, err := r.SetupBufRing(8, 1, 0xffff); err != nil {
		t.Error(mended)
		return
	}
	must(t, r.FreeBufRing(1)) // which does not unmap it
}

// TestWrongUnregisterRing shows that it refuses just when there is something to
// undo. The registration ends with the thread.
func TestWrongUnregisterRing(t *testing.T) {
	r := theirRing(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so the thread ends here
		_, err := r.RegisterRingFd()
		if err == nil {
			_, err = r.UnregisterRingFd()
		}
		done <- err
	}()
	switch err := <-done; {
	case err == nil:
		t.Error(mended)
	case !errors.Is(err, unix.EINVAL):
		t.Error(err)
	}
}
