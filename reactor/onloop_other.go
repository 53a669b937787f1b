//go:build !linux

package reactor

// OnLoop reports whether the caller runs on the loop of some group. There is none.
func OnLoop() bool { return false }

func enterThread() (leave func()) { return func() {} }

func (l *Loop) isHere() {}

func loopHere() *Loop { return nil }
