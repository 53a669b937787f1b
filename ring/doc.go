// Package ring is a small binding of io_uring, and the engine built on it.
//
// The binding is usable alone. [New] sets a ring up on the calling thread,
// [Ring.SQE] hands out the next submission, a Prep method fills it, [Ring.Enter]
// submits and waits, and [Ring.Ready], [Ring.CQE] and [Ring.Advance] read the
// answers. Nothing is hidden: entries are the kernel's own, in shared memory.
// [Engine] is the same ring behind [aio.Engine], for a loop.
//
// # Entering
//
// [Ring.Enter] waits in a raw system call, which the Go scheduler does not see:
// the loop keeps its P, so a wait costs no hand-over. When the runtime wants the
// P back it sends a signal, the wait ends with EINTR, and with an empty queue
// Enter then waits again through a call that the scheduler sees. So the busy
// path pays nothing and an idle loop blocks nobody. This needs asynchronous
// preemption: under GODEBUG=asyncpreemptoff=1 a garbage collection would have to
// wait for the next completion.
//
// # Memory
//
// The kernel reads and writes addresses, and neither keeps Go memory alive nor
// learns when a stack moves. So all bytes, message headers, addresses and times
// that an entry names must be outside the Go heap (package buf, or any mapping)
// or pinned by runtime.Pinner. What the kernel copies while it submits must
// hold until Enter returns; bytes that are sent or received until the completion.
//
// # Features
//
// New asks for the best and takes what the kernel has. What it found is in
// [Ring.Features]; no kernel version is ever compared.
//
//	feature               kernel  without it
//	single_mmap           5.4     New fails: unavailable
//	nodrop                5.5     Engine is unavailable
//	submit_stable         5.5     Engine is unavailable
//	fast_poll             5.7     Engine is unavailable
//	ext_arg               5.11    New fails: unavailable
//	cqe_skip              5.17    Engine is unavailable
//	register_ring_fds     5.18    the plain descriptor, a little slower
//	submit_all            5.18    a bad entry ends the batch; Enter goes on behind it
//	msg_ring              5.18    PrepMsgRing ends with -EINVAL
//	coop_taskrun          5.19    completions interrupt the thread
//	accept_multishot      5.19    Engine is unavailable
//	buffer_ring           5.19    NewBufRing fails, Engine is unavailable
//	single_issuer         6.0     the kernel takes a few more locks
//	recv_multishot        6.0     Engine is unavailable
//	send_zc               6.0     Engine copies (Caps.ZeroCopy is false)
//	defer_taskrun         6.1     coop_taskrun
//	sendmsg_zc            6.1     Engine copies (Caps.ZeroCopy is false)
//	send_zc_report_usage  6.2     Engine copies (Caps.ZeroCopy is false)
//	no_iowait             6.15    the kernel counts a waiting thread as iowait
//	recv_multishot_limit  6.17    receives of much are armed anew for each block
//
// A ring that cannot be had at all is an [*UnavailableError], which names the
// cause and the cure; it is ErrUnavailable to errors.Is, and asks for another
// engine. Any other error of New is a plain one and asks for its cure.
package ring
