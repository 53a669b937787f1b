//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"go/types"
	"reflect"
	"testing"

	"github.com/pawelgaczynski/giouring"
	"github.com/penstock-go/penstock/ring"
)

// layout is a structure as the kernel has it, and its names in the bindings.
type layout struct {
	c            string // in C
	ours, theirs string // theirs is "" where giouring has none
	size         int64
	fields       []field
}

// field is one member. Where the kernel renamed one, c has the newest name first.
type field struct {
	c            string // "" for padding without a name
	off, size    int64
	ours, theirs string
}

// layouts is from include/uapi/linux/io_uring.h of Linux 6.14, and for the last
// two from recvmsg(2) and readv(2) on machines of 64 bits. Members never move;
// the kernel gives names to padding: user_addr in 6.5 (was resv2), flags of a
// buffer ring in 6.4 (pad), min_wait_usec in 6.12 (pad). In struct io_uring_buf
// the last member is only padding by name: in the first entry of a ring it is
// the tail, see struct io_uring_buf_ring.
var layouts = []layout{
	{"struct io_uring_sqe", "SQE", "SubmissionQueueEntry", 64, []field{
		{"opcode", 0, 1, "Opcode", "OpCode"},
		{"flags", 1, 1, "Flags", "Flags"},
		{"ioprio", 2, 2, "Ioprio", "IoPrio"},
		{"fd", 4, 4, "FD", "Fd"},
		{"off", 8, 8, "Off", "Off"},
		{"addr", 16, 8, "Addr", "Addr"},
		{"len", 24, 4, "Len", "Len"},
		{"rw_flags", 28, 4, "OpFlags", "OpcodeFlags"},
		{"user_data", 32, 8, "UserData", "UserData"},
		{"buf_index", 40, 2, "BufIndex", "BufIG"},
		{"personality", 42, 2, "Personality", "Personality"},
		{"splice_fd_in", 44, 4, "SpliceFDIn", "SpliceFdIn"},
		{"addr3", 48, 8, "Addr3", "Addr3"},
		{"__pad2", 56, 8, "_", "_pad2"},
	}},
	{"struct io_uring_cqe", "CQE", "CompletionQueueEvent", 16, []field{
		{"user_data", 0, 8, "UserData", "UserData"},
		{"res", 8, 4, "Res", "Res"},
		{"flags", 12, 4, "Flags", "Flags"},
	}},
	{"struct io_sqring_offsets", "sqOffsets", "SQRingOffsets", 40, []field{
		{"head", 0, 4, "head", "head"},
		{"tail", 4, 4, "tail", "tail"},
		{"ring_mask", 8, 4, "mask", "ringMask"},
		{"ring_entries", 12, 4, "entries", "ringEntries"},
		{"flags", 16, 4, "flags", "flags"},
		{"dropped", 20, 4, "dropped", "dropped"},
		{"array", 24, 4, "array", "array"},
		{"resv1", 28, 4, "resv1", "resv1"},
		{"user_addr|resv2", 32, 8, "userAddr", "userAddr"},
	}},
	{"struct io_cqring_offsets", "cqOffsets", "CQRingOffsets", 40, []field{
		{"head", 0, 4, "head", "head"},
		{"tail", 4, 4, "tail", "tail"},
		{"ring_mask", 8, 4, "mask", "ringMask"},
		{"ring_entries", 12, 4, "entries", "ringEntries"},
		{"overflow", 16, 4, "overflow", "overflow"},
		{"cqes", 20, 4, "cqes", "cqes"},
		{"flags", 24, 4, "flags", "flags"},
		{"resv1", 28, 4, "resv1", "resv1"},
		{"user_addr|resv2", 32, 8, "userAddr", "userAddr"},
	}},
	{"struct io_uring_params", "params", "Params", 120, []field{
		{"sq_entries", 0, 4, "sqEntries", "sqEntries"},
		{"cq_entries", 4, 4, "cqEntries", "cqEntries"},
		{"flags", 8, 4, "flags", "flags"},
		{"sq_thread_cpu", 12, 4, "sqThreadCPU", "sqThreadCPU"},
		{"sq_thread_idle", 16, 4, "sqThreadIdle", "sqThreadIdle"},
		{"features", 20, 4, "features", "features"},
		{"wq_fd", 24, 4, "wqFD", "wqFd"},
		{"resv", 28, 12, "resv", "resv"},
		{"sq_off", 40, 40, "sqOff", "sqOff"},
		{"cq_off", 80, 40, "cqOff", "cqOff"},
	}},
	{"struct io_uring_getevents_arg", "geteventsArg", "GetEventsArg", 24, []field{
		{"sigmask", 0, 8, "sigmask", "sigMask"},
		{"sigmask_sz", 8, 4, "sigmaskSz", "sigMaskSz"},
		{"min_wait_usec|pad", 12, 4, "pad", "pad"},
		{"ts", 16, 8, "ts", "ts"},
	}},
	{"struct io_uring_rsrc_update", "rsrcUpdate", "RsrcUpdate", 16, []field{
		{"offset", 0, 4, "offset", "Offset"},
		{"resv", 4, 4, "resv", "Resv"},
		{"data", 8, 8, "data", "Data"},
	}},
	{"struct io_uring_buf_reg", "bufReg", "BufReg", 40, []field{
		{"ring_addr", 0, 8, "ringAddr", "RingAddr"},
		{"ring_entries", 8, 4, "ringEntries", "RingEntries"},
		{"bgid", 12, 2, "bgid", "Bgid"},
		{"flags|pad", 14, 2, "flags", "Pad"},
		{"resv", 16, 24, "resv", "Resv"},
	}},
	{"struct io_uring_buf", "bufEntry", "BufAndRing", 16, []field{
		{"addr", 0, 8, "addr", "Addr"},
		{"len", 8, 4, "len", "Len"},
		{"bid", 12, 2, "bid", "Bid"},
		{"resv", 14, 2, "tail", "Tail"},
	}},
	// Both bindings have room for 256 operations, as liburing's get_probe has;
	// in C the array has no length.
	{"struct io_uring_probe", "probe", "Probe", 16 + 256*8, []field{
		{"last_op", 0, 1, "lastOp", "LastOp"},
		{"ops_len", 1, 1, "opsLen", "OpsLen"},
		{"resv", 2, 2, "resv", "Res"},
		{"resv2", 4, 12, "resv2", "Res2"},
		{"ops", 16, 256 * 8, "ops", "Ops"},
	}},
	{"struct io_uring_probe_op", "probe.ops", "ProbeOp", 8, []field{
		{"op", 0, 1, "op", "Op"},
		{"resv", 1, 1, "resv", "Res"},
		{"flags", 2, 2, "flags", "Flags"},
		{"resv2", 4, 4, "resv2", "Res2"},
	}},
	{"struct msghdr", "msghdr", "", 56, []field{
		{"msg_name", 0, 8, "name", ""},
		{"msg_namelen", 8, 4, "namelen", ""},
		{"", 12, 4, "_", ""},
		{"msg_iov", 16, 8, "iov", ""},
		{"msg_iovlen", 24, 8, "iovlen", ""},
		{"msg_control", 32, 8, "control", ""},
		{"msg_controllen", 40, 8, "controllen", ""},
		{"msg_flags", 48, 4, "flags", ""},
		{"", 52, 4, "_", ""},
	}},
	{"struct iovec", "iovec", "", 16, []field{
		{"iov_base", 0, 8, "base", ""},
		{"iov_len", 8, 8, "len", ""},
	}},
}

// TestLayouts holds our structures and giouring's to the table, on all
// architectures of ring.
func TestLayouts(t *testing.T) {
	ours, theirs := readRing(t), readGiouring(t)
	for _, l := range layouts {
		for _, arch := range arches {
			l.check(t, "ring", arch, ours, l.ours, func(f field) string { return f.ours })
			if l.theirs != "" {
				l.check(t, "giouring", arch, theirs, l.theirs, func(f field) string { return f.theirs })
			}
		}
	}
}

// check holds one structure of a binding to the table.
func (l *layout) check(t *testing.T, binding, arch string, s *source, name string, called func(field) string) {
	t.Helper()
	st := s.structure(name)
	switch {
	case st == nil:
		t.Errorf("%s: there is no structure %s, for %s", binding, name, l.c)
		return
	case st.NumFields() != len(l.fields):
		t.Errorf("%s: %s has %d fields, %s has %d", binding, name, st.NumFields(), l.c, len(l.fields))
		return
	}
	sizes := types.SizesFor("gc", arch)
	if got := sizes.Sizeof(st); got != l.size {
		t.Errorf("%s on %s: %s has %d bytes, %s has %d", binding, arch, name, got, l.c, l.size)
	}
	var members []*types.Var
	for f := range st.Fields() {
		members = append(members, f)
	}
	for i, off := range sizes.Offsetsof(members) {
		got, want := members[i], l.fields[i]
		size := sizes.Sizeof(got.Type())
		if got.Name() != called(want) || off != want.off || size != want.size {
			t.Errorf("%s on %s: %s.%s is %d bytes at %d; %s of %s is %d at %d, and called %s here", binding, arch,
				name, got.Name(), size, off, want.c, l.c, want.size, want.off, called(want))
		}
	}
}

// TestLayoutsComplete keeps the table from falling behind our sources.
func TestLayoutsComplete(t *testing.T) {
	s := readRing(t)
	listed := map[string]bool{}
	for _, l := range layouts {
		listed[l.ours] = true
	}
	for name := range s.abi {
		if s.structure(name) != nil && !listed[name] {
			t.Errorf("structure %s has no row in the table", name)
		}
	}
}

// TestLinked holds what was read from sources to what is linked, where the
// types can be named.
func TestLinked(t *testing.T) {
	types := map[string]reflect.Type{}
	for _, v := range []any{
		giouring.SubmissionQueueEntry{}, giouring.CompletionQueueEvent{}, giouring.SQRingOffsets{},
		giouring.CQRingOffsets{}, giouring.Params{}, giouring.GetEventsArg{}, giouring.RsrcUpdate{},
		giouring.BufReg{}, giouring.BufAndRing{}, giouring.Probe{}, giouring.ProbeOp{}, ring.SQE{}, ring.CQE{},
	} {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	seen := 0
	for _, l := range layouts {
		for _, name := range []string{l.ours, l.theirs} {
			typ, ok := types[name]
			if !ok {
				continue
			}
			seen++
			if int64(typ.Size()) != l.size || typ.NumField() != len(l.fields) {
				t.Errorf("%s: %d bytes and %d fields, want %d and %d", typ, typ.Size(), typ.NumField(), l.size, len(l.fields))
				continue
			}
			for i, f := range l.fields {
				if got := typ.Field(i); int64(got.Offset) != f.off || int64(got.Type.Size()) != f.size {
					t.Errorf("%s.%s: %d bytes at %d, want %d at %d", typ, got.Name, got.Type.Size(), got.Offset, f.size, f.off)
				}
			}
		}
	}
	if seen != len(types) {
		t.Errorf("%d of %d types were in the table", seen, len(types))
	}
}
