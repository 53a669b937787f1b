// The tests here link only with -ldflags=-checklinkname=0, see README.md.
module github.com/penstock-go/penstock/ring/internal/abi

go 1.25.0

require (
	github.com/pawelgaczynski/giouring v0.0.0-20230826085535-69588b89acb9
	github.com/penstock-go/penstock v0.0.0
	golang.org/x/sys v0.47.0
)

replace github.com/penstock-go/penstock => ../../..
