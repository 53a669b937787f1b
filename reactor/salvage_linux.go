package reactor

import (
	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/sys"
)

// perform does what of op needs no engine.
func perform(op *aio.Op) {
	switch op.Kind {
	case aio.Close:
		_ = unix.Close(int(op.FD))
	case aio.Shutdown:
		_ = unix.Shutdown(int(op.FD), unix.SHUT_WR)
	case aio.Reset:
		_ = sys.Reset(int(op.FD))
	}
}
