// Package reactor runs one loop per core and nothing else: it turns, hands
// completions to the parties that wait for them, keeps their timers and their
// mail, watches descriptors of the user's own, and ends without leaving anything
// behind. [Config] has hooks for the start and the end of each loop.
//
// # Threads
//
// A *Loop is handed out only to code that runs on it. What may travel is a
// [Remote], which posts a function to the loop. Each loop is a goroutine locked
// to its thread, and the thread waits in the kernel without telling the Go
// scheduler, since telling it costs more than a message. So a loop keeps its P
// while it waits, and a process needs more Ps than loops: GOMAXPROCS of loops
// plus two or more. [Start] warns when it is not. The wait ends by the signal
// of asynchronous preemption; GODEBUG=asyncpreemptoff=1 would leave other
// goroutines and the collector without it.
//
// # Engines
//
// io_uring is taken where the host gives it, else epoll, and Info says which
// and why. Nothing above this package can tell the difference.
package reactor
