package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	two := func(cpu int) string { return []string{"0-1", "0-1", "2-3", "2-3"}[cpu] }
	if got, want := Spread([]int{0, 1, 2, 3}, two), []int{0, 2, 1, 3}; !slices.Equal(got, want) {
		t.Errorf("neighbours on a core: %v, want %v", got, want)
	}
	half := func(cpu int) string { return []string{"0,2", "1,3", "0,2", "1,3"}[cpu] }
	if got, want := Spread([]int{0, 1, 2, 3}, half), []int{0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("halves: %v, want %v", got, want)
	}
	if got, want := Spread([]int{5, 7}, func(int) string { return "" }), []int{5, 7}; !slices.Equal(got, want) {
		t.Errorf("nothing known: %v, want %v", got, want)
	}
}

func TestQuota(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "1:cpu:/x\n0::/a/b\n")
	self := filepath.Join(root, "self")
	if got := Quota(root, self); got != 0 {
		t.Errorf("without a bound %v", got)
	}
	write("a/b/cpu.max", "max 100000\n")
	write("a/cpu.max", "150000 100000\n")
	write("cpu.max", "800000 100000\n")
	if got := Quota(root, self); got != 1.5 {
		t.Errorf("%v, want the least of its ancestors", got)
	}
}
