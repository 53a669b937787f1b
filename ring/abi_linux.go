//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

// Opcodes, as in enum io_uring_op.
const (
	opNop           = 0
	opPollAdd       = 6
	opPollRemove    = 7
	opSendmsg       = 9
	opRecvmsg       = 10
	opTimeout       = 11
	opTimeoutRemove = 12
	opAccept        = 13
	opAsyncCancel   = 14
	opLinkTimeout   = 15
	opConnect       = 16
	opClose         = 19
	opRead          = 22
	opWrite         = 23
	opSend          = 26
	opRecv          = 27
	opSplice        = 30
	opShutdown      = 34
	opMsgRing       = 40
	opSendZC        = 47
	opSendmsgZC     = 48
)

// Bits of SQE.Flags, which modify any operation (IOSQE_*).
const (
	SQEFixedFile      = 1 << 0 // FD is an index of the registered files
	SQEIODrain        = 1 << 1 // after all that was submitted before
	SQEIOLink         = 1 << 2 // the next entry starts when this one succeeded
	SQEIOHardlink     = 1 << 3 // the next entry starts when this one ended
	SQEAsync          = 1 << 4 // by a kernel worker, without a first try inline
	SQEBufferSelect   = 1 << 5 // into a provided buffer of the group BufIndex
	SQECQESkipSuccess = 1 << 6 // no completion unless it fails; kernel 5.17
)

// Bits of the flags that Prep methods take.
const (
	RecvsendPollFirst = 1 << 0 // sends and receives: wait for readiness before the first try; kernel 5.19
	recvMultishot     = 1 << 1
	SendZCReportUsage = 1 << 3 // zero-copy sends: say in the notification whether bytes were copied; kernel 6.2

	CancelAll = 1 << 0 // every match, not only the first; kernel 5.19
	cancelFD  = 1 << 1
	cancelAny = 1 << 2

	TimeoutAbs          = 1 << 0 // the time is a point of CLOCK_MONOTONIC
	timeoutUpdate       = 1 << 1
	TimeoutETimeSuccess = 1 << 5 // -ETIME does not break a link; kernel 5.16
	pollAddMulti        = 1 << 0
	acceptMultishot     = 1 << 0
	notifUsageZCCopied  = -1 << 31 // in CQE.Res of a notification
)

// Bits of CQE.Flags (IORING_CQE_F_*).
const (
	CQEBuffer       = 1 << 0
	CQEMore         = 1 << 1
	CQESockNonempty = 1 << 2
	CQENotif        = 1 << 3
	cqeBufferShift  = 16
)

// Flags of io_uring_setup(2).
const (
	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupSubmitAll    = 1 << 7
	setupCoopTaskrun  = 1 << 8
	setupTaskrunFlag  = 1 << 9
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
)

// Bits of params.features.
const (
	featureSingleMmap   = 1 << 0
	featureNoDrop       = 1 << 1
	featureSubmitStable = 1 << 2
	featureFastPoll     = 1 << 5
	featureExtArg       = 1 << 8
	featureCQESkip      = 1 << 11
	featureNoIowait     = 1 << 17
)

// Flags of io_uring_enter(2), and of the submission queue.
const (
	enterGetevents      = 1 << 0
	enterExtArg         = 1 << 3
	enterRegisteredRing = 1 << 4
	enterNoIowait       = 1 << 7

	sqCQOverflow = 1 << 1
	sqTaskrun    = 1 << 2
)

// Operations of io_uring_register(2).
const (
	registerProbe                 = 8
	registerRingFDs               = 20
	unregisterRingFDs             = 21
	registerPbufRing              = 22
	unregisterPbufRing            = 23
	registerRingFDAnyOffset       = ^uint32(0)
	probeOpSupported              = 1 << 0
	probeOps                      = 256
	offSQRing               int64 = 0
	offSQEs                 int64 = 0x10000000
)

// SQE is one submission in the kernel's layout (struct io_uring_sqe). A Prep
// method sets what its operation needs; UserData and bits of Flags are the
// caller's to set behind it.
//
// Ownership: the entry is in memory shared with the kernel, and is the caller's
// until the next Enter.
type SQE struct {
	Opcode      uint8
	Flags       uint8
	Ioprio      uint16
	FD          int32
	Off         uint64 // or addr2
	Addr        uint64
	Len         uint32
	OpFlags     uint32 // msg_flags, poll32_events, timeout_flags and so on
	UserData    uint64 // comes back in each CQE
	BufIndex    uint16 // or buf_group
	Personality uint16
	SpliceFDIn  int32 // or file_index, or optlen
	Addr3       uint64
	_           uint64
}

// CQE is one completion in the kernel's layout (struct io_uring_cqe).
type CQE struct {
	UserData uint64
	Res      int32 // what the system call would return, or a negative errno
	Flags    uint32
}

// More reports whether the same submission will bring further completions.
func (c *CQE) More() bool { return c.Flags&CQEMore != 0 }

// Notif reports whether this is the notification of a zero-copy send: the
// bytes are free, and Res is no result.
func (c *CQE) Notif() bool { return c.Flags&CQENotif != 0 }

// Copied reports whether a notification says that the kernel copied bytes
// after all. It needs SendZCReportUsage.
func (c *CQE) Copied() bool { return c.Notif() && c.Res&notifUsageZCCopied != 0 }

// BufferID returns the id of the provided buffer that was used up, if one was.
func (c *CQE) BufferID() (id uint16, ok bool) {
	return uint16(c.Flags >> cqeBufferShift), c.Flags&CQEBuffer != 0
}

// SockNonempty reports whether more was waiting in the socket after a receive.
func (c *CQE) SockNonempty() bool { return c.Flags&CQESockNonempty != 0 }

type sqOffsets struct {
	head, tail, mask, entries, flags, dropped, array, resv1 uint32
	userAddr                                                uint64
}

type cqOffsets struct {
	head, tail, mask, entries, overflow, cqes, flags, resv1 uint32
	userAddr                                                uint64
}

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags uint32
	sqThreadCPU, sqThreadIdle   uint32
	features, wqFD              uint32
	resv                        [3]uint32
	sqOff                       sqOffsets
	cqOff                       cqOffsets
}

// geteventsArg is struct io_uring_getevents_arg.
type geteventsArg struct {
	sigmask   uint64
	sigmaskSz uint32
	pad       uint32
	ts        uint64
}

// rsrcUpdate is struct io_uring_rsrc_update.
type rsrcUpdate struct {
	offset, resv uint32
	data         uint64
}

// bufReg is struct io_uring_buf_reg.
type bufReg struct {
	ringAddr    uint64
	ringEntries uint32
	bgid, flags uint16
	resv        [3]uint64
}

// bufEntry is struct io_uring_buf. In the first entry of a ring the bytes of
// tail are the ring's tail.
type bufEntry struct {
	addr      uint64
	len       uint32
	bid, tail uint16
}

// probe is struct io_uring_probe with room for every opcode there can be.
type probe struct {
	lastOp, opsLen uint8
	resv           uint16
	resv2          [3]uint32
	ops            [probeOps]struct {
		op, resv uint8
		flags    uint16
		resv2    uint32
	}
}
