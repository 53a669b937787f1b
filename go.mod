module github.com/penstock-go/penstock

go 1.25.0

require (
	github.com/alecthomas/kong v1.17.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
