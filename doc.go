// Package penstock is the front door of a reactor per core on io_uring, for
// services that hold many connections and answer fast. It holds no code.
//
// Each connection has a send buffer with a bound, a hook when it fills and a
// hook when it drains, so that a slow peer can never eat the process. Where
// the kernel or the sandbox gives no io_uring, epoll serves with the same
// guarantees.
//
// Open the packages in this order:
//
//   - [github.com/penstock-go/penstock/reactor]: start the loops, one a core
//   - [github.com/penstock-go/penstock/conn]: listen and dial, and serve connections
//   - [github.com/penstock-go/penstock/codec] and [github.com/penstock-go/penstock/ws]:
//     messages on them, and WebSocket
//   - [github.com/penstock-go/penstock/buf]: the bytes, and who owns them
//
// Those who want the kernel itself find io_uring alone in
// [github.com/penstock-go/penstock/ring], and those who write an engine the
// law it must keep in [github.com/penstock-go/penstock/aio], with a suite that
// tests it in its folder aiotest.
//
// The command in cmd/penstock serves the built-in protocols without a line of
// Go; examples/firehose shows a queue fill and drain.
package penstock
