module github.com/penstock-go/penstock

go 1.25.0

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0
	github.com/alecthomas/kong v1.17.0
	golang.org/x/sys v0.47.0
)
