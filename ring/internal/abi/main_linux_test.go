//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

// Package abi_test needs -ldflags=-checklinkname=0 to link: see README.md.
package abi_test

import (
	"testing"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needUring skips where this process cannot have io_uring, by the rules of
// testutil.
func needUring(t *testing.T) {
	t.Helper()
	r, err := ring.New(ring.Config{Entries: 8})
	testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
	must(t, r.Close())
}
