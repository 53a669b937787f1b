// Package abi needs -ldflags=-checklinkname=0 for its tests to link, because of
// github.com/pawelgaczynski/giouring: see README.md.
//
// The tests hold what package ring tells the kernel, by structures, constants
// and submission entries, against three others: tables from the kernel's header
// and the manual pages, giouring, and the C headers that are installed. There is
// no code in it for anybody to import.
package abi
