//go:build !linux

package conn

import (
	"errors"
	"os"
	"syscall"
)

type fileSender struct{}

func (*fileSender) sendfile(int, *os.File, int64, int) (int, error) {
	return 0, errors.ErrUnsupported
}

func socketError(int) syscall.Errno { return syscall.ECONNRESET }
