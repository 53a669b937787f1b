//go:build !linux

package conn

import (
	"errors"
	"runtime"
)

var errLinux = errors.New("conn: penstock runs on Linux only, not on " + runtime.GOOS)

func socketAddrs(int) addrs { return addrs{} }

func unacked(int) int { return 0 }

func closeSocket(int) {}

func acceptOne(int) (int, error) { return -1, errLinux }

func listenTCP(string, string, int, Config) ([]int, Addr, error) {
	return nil, Addr{}, errLinux
}

func duplicateFD(int) (int, error) { return -1, errLinux }

func prepare(int, Config) error { return errLinux }
