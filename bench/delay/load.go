package main

import "time"

// loadCmd is the process that sends to the server and waits for the answers.
type loadCmd struct {
	Addr string
	Rate int  // messages a second; 0: one on each connection at any time
	Spin bool // never sleep between messages: the generator has a CPU for itself
	Each time.Duration
}
