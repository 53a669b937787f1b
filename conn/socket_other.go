//go:build !linux

package conn

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

var errLinux = errors.New("conn: penstock runs on Linux only, not on " + runtime.GOOS)

func socketAddrs(int) addrs { return addrs{} }

func unacked(int) int { return 0 }

func socketRoom(int) int { return -1 }

func closeSocket(int) {}

func acceptOne(int) (int, error) { return -1, errLinux }

func duplicateFD(int) (int, error) { return -1, errLinux }

func resident(syscall.Conn, int64, int64) bool { return false }

func duplicateFile(file, string) (*os.File, error) { return nil, errLinux }

func prepare(int, Config) error { return errLinux }

func openSockets(string, string, int, Config) (sockets, error) { return sockets{}, errLinux }

func isUnix(int) bool { return false }

func peerCred(int) (PeerCred, error) { return PeerCred{}, errLinux }

func setSendBuffer(int, int) {}

// socketFile is the file of a unix socket; there is none here.
type socketFile struct{}

func (*socketFile) remove() {}
