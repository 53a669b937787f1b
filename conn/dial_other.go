//go:build !linux

package conn

var systemKernel = dialKernel{
	connect: func(Addr, Addr, *Config, func(int) error) (int, error) { return -1, errLinux },
	outcome: func(int) error { return errLinux },
	jitter:  func(int64) int64 { return 0 },
}
