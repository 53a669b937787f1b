package table_test

import (
	"testing"

	"github.com/penstock-go/penstock/internal/table"
)

// TestTable holds that records are zero at first, are kept, and never move.
func TestTable(t *testing.T) {
	var tab table.Table[int]
	if tab.Len() != 0 || tab.Find(0) != nil {
		t.Fatal("an empty table has records")
	}
	const n = 3*table.Chunk + 7
	at := make([]*int, n)
	for i := range at {
		at[i] = tab.At(uint32(i))
		if *at[i] != 0 {
			t.Fatalf("record %d begins as %d", i, *at[i])
		}
		*at[i] = i
	}
	for i := range at {
		if p := tab.Find(uint32(i)); p != at[i] || p != tab.At(uint32(i)) || *p != i {
			t.Fatalf("record %d is another one", i)
		}
	}
	if tab.Len() != 4*table.Chunk || tab.Find(4*table.Chunk) != nil || tab.Find(4*table.Chunk-1) == nil {
		t.Errorf("%d records", tab.Len())
	}
	if p := tab.At(9 * table.Chunk); *p != 0 || tab.Len() != 10*table.Chunk || tab.At(n-1) != at[n-1] {
		t.Error("behind a gap")
	}
}

// TestGrowth holds that a table allocates what its records need, and no more.
func TestGrowth(t *testing.T) {
	type record [2]uint64
	const chunks = 64
	n := testing.AllocsPerRun(10, func() {
		var tab table.Table[record]
		for i := range uint32(chunks * table.Chunk) {
			tab.At(i)[0] = 1
		}
	})
	if n > chunks+8 { // And the list of chunks, which doubles.
		t.Errorf("%v allocations for %d chunks", n, chunks)
	}
}
