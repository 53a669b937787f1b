// Package table keeps records by number, in chunks that never move.
package table

const (
	bits = 8
	// Chunk is how many records a table grows by.
	Chunk = 1 << bits
)

// Table is records by number, from 0 on and without large gaps, such as what an
// engine knows of the party in a slot. It grows by a chunk at a time and copies none,
// so that no turn pays for all that came before, no garbage of its former sizes is
// left, and a pointer to a record stays good. It does not shrink. The zero Table is empty.
type Table[T any] struct{ chunks []*[Chunk]T }

// Len returns how many records the table has.
func (t *Table[T]) Len() int { return len(t.chunks) * Chunk }

// At returns record i, a zero one the first time.
func (t *Table[T]) At(i uint32) *T {
	if int(i>>bits) >= len(t.chunks) {
		t.grow(i)
	}
	return &t.chunks[i>>bits][i%Chunk]
}

// Find returns record i, or nil if the table does not reach so far.
func (t *Table[T]) Find(i uint32) *T {
	if int(i>>bits) >= len(t.chunks) {
		return nil
	}
	return &t.chunks[i>>bits][i%Chunk]
}

func (t *Table[T]) grow(i uint32) {
	for int(i>>bits) >= len(t.chunks) {
		t.chunks = append(t.chunks, new([Chunk]T))
	}
}
