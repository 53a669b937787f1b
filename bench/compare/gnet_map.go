//go:build !poll_opt

package main

const gnetBuild = "built without its tag poll_opt, which the load test sets"
