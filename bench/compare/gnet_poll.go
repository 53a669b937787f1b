//go:build poll_opt

package main

// gnetBuild says how gnet is built: with its tag poll_opt a connection is found by the
// pointer that epoll returns, and not in a map.
const gnetBuild = "built with its tag poll_opt"
