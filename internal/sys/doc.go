// Package sys holds the few system calls that golang.org/x/sys has no form for, or none
// that leaves the Go scheduler out.
package sys
