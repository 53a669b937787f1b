//go:build !linux

package conn

import (
	"errors"
	"os"
)

type fileSender struct{}

func (*fileSender) sendfile(int, *os.File, int64, int) (int, error) {
	return 0, errors.ErrUnsupported
}

func ofSocket(error) bool { return false }
