package reactor

import (
	"testing"

	"github.com/penstock-go/penstock/aio"
)

// BenchmarkLookup is what each completion pays to find its party, among many.
func BenchmarkLookup(b *testing.B) {
	l, _ := handLoop(b)
	var tokens [1 << 13]aio.Token
	s := &sink{}
	for i := range tokens {
		tokens[i] = l.Attach(s)
	}
	at := 0
	for b.Loop() {
		if at = (at + 911) % len(tokens); l.table.lookup(tokens[at]) == nil {
			b.Fatal("nobody")
		}
	}
}
