// Package sys holds the few system calls that golang.org/x/sys has no form for.
package sys
