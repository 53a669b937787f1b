//go:build !linux

package aiotest

// networks returns none: no engine runs on real sockets here.
func networks() []network { return nil }
