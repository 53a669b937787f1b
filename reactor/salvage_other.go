//go:build !linux

package reactor

import "github.com/penstock-go/penstock/aio"

func perform(*aio.Op) {}
