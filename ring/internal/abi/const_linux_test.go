//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/ring"
)

// number is a constant of the kernel, and its names in the bindings.
type number struct {
	c            string // "" where C has no name for it
	value        uint32
	ours, theirs string // theirs is "" where giouring has none
}

// numbers is from include/uapi/linux/io_uring.h of Linux 6.15; values never
// change. Those without a name in C are from io_uring_register(2).
var numbers = []number{
	{"IORING_OP_NOP", 0, "opNop", "OpNop"},
	{"IORING_OP_POLL_ADD", 6, "opPollAdd", "OpPollAdd"},
	{"IORING_OP_POLL_REMOVE", 7, "opPollRemove", "OpPollRemove"},
	{"IORING_OP_SENDMSG", 9, "opSendmsg", "OpSendmsg"},
	{"IORING_OP_RECVMSG", 10, "opRecvmsg", "OpRecvmsg"},
	{"IORING_OP_TIMEOUT", 11, "opTimeout", "OpTimeout"},
	{"IORING_OP_TIMEOUT_REMOVE", 12, "opTimeoutRemove", "OpTimeoutRemove"},
	{"IORING_OP_ACCEPT", 13, "opAccept", "OpAccept"},
	{"IORING_OP_ASYNC_CANCEL", 14, "opAsyncCancel", "OpAsyncCancel"},
	{"IORING_OP_LINK_TIMEOUT", 15, "opLinkTimeout", "OpLinkTimeout"},
	{"IORING_OP_CONNECT", 16, "opConnect", "OpConnect"},
	{"IORING_OP_CLOSE", 19, "opClose", "OpClose"},
	{"IORING_OP_READ", 22, "opRead", "OpRead"},
	{"IORING_OP_WRITE", 23, "opWrite", "OpWrite"},
	{"IORING_OP_SEND", 26, "opSend", "OpSend"},
	{"IORING_OP_RECV", 27, "opRecv", "OpRecv"},
	{"IORING_OP_SPLICE", 30, "opSplice", "OpSplice"},
	{"IORING_OP_SHUTDOWN", 34, "opShutdown", "OpShutdown"},
	{"IORING_OP_MSG_RING", 40, "opMsgRing", "OpMsgRing"},
	{"IORING_OP_SEND_ZC", 47, "opSendZC", "OpSendZC"},
	{"IORING_OP_SENDMSG_ZC", 48, "opSendmsgZC", "OpSendMsgZC"},

	{"IOSQE_FIXED_FILE", 0x01, "SQEFixedFile", "SqeFixedFile"},
	{"IOSQE_IO_DRAIN", 0x02, "SQEIODrain", "SqeIODrain"},
	{"IOSQE_IO_LINK", 0x04, "SQEIOLink", "SqeIOLink"},
	{"IOSQE_IO_HARDLINK", 0x08, "SQEIOHardlink", "SqeIOHardlink"},
	{"IOSQE_ASYNC", 0x10, "SQEAsync", "SqeAsync"},
	{"IOSQE_BUFFER_SELECT", 0x20, "SQEBufferSelect", "SqeBufferSelect"},
	{"IOSQE_CQE_SKIP_SUCCESS", 0x40, "SQECQESkipSuccess", "SqeCQESkipSuccess"},

	{"IORING_RECVSEND_POLL_FIRST", 0x1, "RecvsendPollFirst", "RecvsendPollFirst"},
	{"IORING_RECV_MULTISHOT", 0x2, "recvMultishot", "RecvMultishot"},
	{"IORING_SEND_ZC_REPORT_USAGE", 0x8, "SendZCReportUsage", "SendZCReportUsage"},
	{"IORING_NOTIF_USAGE_ZC_COPIED", 0x80000000, "notifUsageZCCopied", "NotifUsageZCCopied"},
	{"IORING_ASYNC_CANCEL_ALL", 0x1, "CancelAll", "AsyncCancelAll"},
	{"IORING_ASYNC_CANCEL_FD", 0x2, "cancelFD", "AsyncCancelFd"},
	{"IORING_ASYNC_CANCEL_ANY", 0x4, "cancelAny", "AsyncCancelAny"},
	{"IORING_TIMEOUT_ABS", 0x1, "TimeoutAbs", "TimeoutAbs"},
	{"IORING_TIMEOUT_UPDATE", 0x2, "timeoutUpdate", "TimeoutUpdate"},
	{"IORING_TIMEOUT_ETIME_SUCCESS", 0x20, "TimeoutETimeSuccess", "TimeoutETimeSuccess"},
	{"IORING_POLL_ADD_MULTI", 0x1, "pollAddMulti", "PollAddMulti"},
	{"IORING_ACCEPT_MULTISHOT", 0x1, "acceptMultishot", "AcceptMultishot"},

	{"IORING_CQE_F_BUFFER", 0x1, "CQEBuffer", "CQEFBuffer"},
	{"IORING_CQE_F_MORE", 0x2, "CQEMore", "CQEFMore"},
	{"IORING_CQE_F_SOCK_NONEMPTY", 0x4, "CQESockNonempty", "CQEFSockNonempty"},
	{"IORING_CQE_F_NOTIF", 0x8, "CQENotif", "CQEFNotif"},
	{"IORING_CQE_BUFFER_SHIFT", 16, "cqeBufferShift", "CQEBufferShift"},

	{"IORING_SETUP_CQSIZE", 0x0008, "setupCQSize", "SetupCQSize"},
	{"IORING_SETUP_CLAMP", 0x0010, "setupClamp", "SetupClamp"},
	{"IORING_SETUP_SUBMIT_ALL", 0x0080, "setupSubmitAll", "SetupSubmitAll"},
	{"IORING_SETUP_COOP_TASKRUN", 0x0100, "setupCoopTaskrun", "SetupCoopTaskrun"},
	{"IORING_SETUP_TASKRUN_FLAG", 0x0200, "setupTaskrunFlag", "SetupTaskrunFlag"},
	{"IORING_SETUP_SINGLE_ISSUER", 0x1000, "setupSingleIssuer", "SetupSingleIssuer"},
	{"IORING_SETUP_DEFER_TASKRUN", 0x2000, "setupDeferTaskrun", "SetupDeferTaskrun"},

	{"IORING_FEAT_SINGLE_MMAP", 0x001, "featureSingleMmap", "FeatSingleMMap"},
	{"IORING_FEAT_NODROP", 0x002, "featureNoDrop", "FeatNoDrop"},
	{"IORING_FEAT_SUBMIT_STABLE", 0x004, "featureSubmitStable", "FeatSubmitStable"},
	{"IORING_FEAT_FAST_POLL", 0x020, "featureFastPoll", "FeatFastPoll"},
	{"IORING_FEAT_EXT_ARG", 0x100, "featureExtArg", "FeatExtArg"},
	{"IORING_FEAT_CQE_SKIP", 0x800, "featureCQESkip", "FeatCQESkip"},
	{"IORING_FEAT_NO_IOWAIT", 0x20000, "featureNoIowait", ""},

	{"IORING_ENTER_GETEVENTS", 0x01, "enterGetevents", "EnterGetEvents"},
	{"IORING_ENTER_EXT_ARG", 0x08, "enterExtArg", "EnterExtArg"},
	{"IORING_ENTER_REGISTERED_RING", 0x10, "enterRegisteredRing", "EnterRegisteredRing"},
	{"IORING_ENTER_NO_IOWAIT", 0x80, "enterNoIowait", ""},
	{"IORING_SQ_CQ_OVERFLOW", 0x2, "sqCQOverflow", "SQCQOverflow"},
	{"IORING_SQ_TASKRUN", 0x4, "sqTaskrun", "SQTaskrun"},

	{"IORING_REGISTER_PROBE", 8, "registerProbe", "RegisterProbe"},
	{"IORING_REGISTER_RING_FDS", 20, "registerRingFDs", "RegisterRingFDs"},
	{"IORING_UNREGISTER_RING_FDS", 21, "unregisterRingFDs", "UnregisterRingFDs"},
	{"IORING_REGISTER_PBUF_RING", 22, "registerPbufRing", "RegisterPbufRing"},
	{"IORING_UNREGISTER_PBUF_RING", 23, "unregisterPbufRing", "UnregisterPbufRing"},
	{"IO_URING_OP_SUPPORTED", 0x1, "probeOpSupported", "opSupported"},
	{"IORING_OFF_SQ_RING", 0, "offSQRing", "offsqRing"},
	{"IORING_OFF_SQES", 0x10000000, "offSQEs", "offSQEs"},

	{"", 0xffffffff, "registerRingFDAnyOffset", "registerRingFdOffset"},
	{"", 256, "probeOps", "probeOpsSize"},
}

// TestNumbers holds our constants and giouring's to the table.
func TestNumbers(t *testing.T) {
	ours, theirs := readRing(t), readGiouring(t)
	for _, n := range numbers {
		if got := ours.constant(t, n.ours); got != n.value {
			t.Errorf("ring: %s is %#x, and %#x in %s", n.ours, got, n.value, n.c)
		}
		if n.theirs == "" {
			continue
		}
		if got := theirs.constant(t, n.theirs); got != n.value {
			t.Errorf("giouring: %s is %#x, and %#x in %s", n.theirs, got, n.value, n.c)
		}
		// TestMissing stands on this.
		if n.c != "" && plain(n.c) != strings.ToLower(n.theirs) {
			t.Errorf("giouring calls %s %s, which does not follow from it", n.c, n.theirs)
		}
	}
	// Not for a structure or a flag word, so not among the table's: the value of
	// off in io_uring_enter(2) for the file's own position.
	if minusOne := int64(-1); ring.CurrentOffset != uint64(minusOne) {
		t.Errorf("CurrentOffset is %#x, want -1", uint64(ring.CurrentOffset))
	}
}

// TestNumbersComplete keeps the table from falling behind our sources.
func TestNumbersComplete(t *testing.T) {
	s := readRing(t)
	listed := map[string]bool{}
	for _, n := range numbers {
		if listed[n.ours] {
			t.Errorf("%s is twice in the table", n.ours)
		}
		listed[n.ours] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.abi)) {
		if _, ok := s.scope.Lookup(name).(*types.Const); ok && !listed[name] {
			t.Errorf("constant %s has no row in the table", name)
		}
	}
}

// plain is giouring's way to make a name from C's, in small letters.
func plain(c string) string {
	for from, to := range map[string]string{"IORING_": "", "IOSQE_": "sqe_", "IOU_": "", "IO_URING_": ""} {
		if rest, ok := strings.CutPrefix(c, from); ok {
			c = to + rest
			break
		}
	}
	return strings.ToLower(strings.ReplaceAll(c, "_", ""))
}

// missing are constants that came to the kernel since giouring's last commit, in
// August 2023. One that ring takes into use gets a row in numbers besides, where
// theirs is "" then.
var missing = []struct {
	c      string
	value  uint32
	kernel string
}{
	{"IORING_SETUP_NO_SQARRAY", 1 << 16, "6.6"},
	{"IORING_ASYNC_CANCEL_USERDATA", 1 << 4, "6.6"},
	{"IORING_ASYNC_CANCEL_OP", 1 << 5, "6.6"},
	{"IORING_OP_READ_MULTISHOT", 49, "6.7"},
	{"IORING_OP_WAITID", 50, "6.7"},
	{"IORING_OP_FUTEX_WAIT", 51, "6.7"},
	{"IORING_OP_FIXED_FD_INSTALL", 54, "6.8"},
	{"IORING_REGISTER_PBUF_STATUS", 26, "6.8"},
	{"IORING_OP_FTRUNCATE", 55, "6.9"},
	{"IORING_REGISTER_NAPI", 27, "6.9"},
	{"IORING_UNREGISTER_NAPI", 28, "6.9"},
	{"IORING_RECVSEND_BUNDLE", 1 << 4, "6.10"},
	{"IORING_FEAT_RECVSEND_BUNDLE", 1 << 14, "6.10"},
	{"IORING_ACCEPT_DONTWAIT", 1 << 1, "6.10"},
	{"IORING_ACCEPT_POLL_FIRST", 1 << 2, "6.10"},
	{"IORING_OP_BIND", 56, "6.11"},
	{"IORING_OP_LISTEN", 57, "6.11"},
	{"IOU_PBUF_RING_INC", 2, "6.12"},
	{"IORING_CQE_F_BUF_MORE", 1 << 4, "6.12"},
	{"IORING_FEAT_MIN_TIMEOUT", 1 << 15, "6.12"},
	{"IORING_ENTER_ABS_TIMER", 1 << 5, "6.12"},
	{"IORING_REGISTER_CLOCK", 29, "6.12"},
	{"IORING_REGISTER_CLONE_BUFFERS", 30, "6.12"},
	{"IORING_ENTER_EXT_ARG_REG", 1 << 6, "6.13"},
	{"IORING_SETUP_HYBRID_IOPOLL", 1 << 17, "6.13"},
	{"IORING_REGISTER_SEND_MSG_RING", 31, "6.13"},
	{"IORING_REGISTER_RESIZE_RINGS", 33, "6.13"},
	{"IORING_REGISTER_MEM_REGION", 34, "6.13"},
	{"IORING_ENTER_NO_IOWAIT", 1 << 7, "6.15"},
	{"IORING_FEAT_NO_IOWAIT", 1 << 17, "6.15"},
}

// TestMissing names what giouring lacks, and tells when that changes.
func TestMissing(t *testing.T) {
	has := map[string]string{}
	for name := range readGiouring(t).abi {
		has[strings.ToLower(name)] = name
	}
	if has["setupdefertaskrun"] == "" {
		t.Fatal("the constants of giouring were not read")
	}
	for _, m := range missing {
		if name := has[plain(m.c)]; name != "" {
			t.Errorf("giouring has %s now, for %s of Linux %s: take it off the list here and in README.md", name, m.c, m.kernel)
		}
	}
}
