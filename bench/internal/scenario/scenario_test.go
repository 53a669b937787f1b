package scenario

import (
	"slices"
	"strings"
	"testing"
)

func TestAll(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All(20_000) {
		if seen[s.Name] || s.Why == "" || strings.Contains(s.Why, "\n") || s.Kind == "" || s.Protocol == "" || s.Loops < 1 || len(s.Variants) == 0 {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
		if note := s.Fit(20_000); note != "" {
			t.Error(note)
		}
	}
	for _, s := range Usual(All(20_000)) {
		if s.Variants[0].Load.WS != "" {
			t.Errorf("%s runs unasked", s.Name)
		}
	}
	if !seen[CapacityOf] {
		t.Error("nothing measures the capacity")
	}
}

func TestSelect(t *testing.T) {
	all := All(20_000)
	some, err := Select(all, "^echo-64-c")
	var names []string
	for _, s := range some {
		names = append(names, s.Name)
	}
	if want := []string{"echo-64-c1", "echo-64-c64", "echo-64-c1000", "echo-64-c64-d16"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v, want %q", names, err, want)
	}
	for _, bad := range []string{"no such thing", "("} {
		if _, err := Select(all, bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestFit(t *testing.T) {
	for _, s := range All(256) {
		note := s.Fit(256)
		for _, v := range s.Variants {
			n := v.Load.Conns + v.Load.Beside
			if n > 256-Spare {
				t.Errorf("%s: %d connections with 256 descriptors", s.Name, n)
			}
			if v.Load.Beside == 0 && s.Kind == Slow {
				t.Errorf("%s: no slow reader is left", s.Name)
			}
		}
		if s.Name == "echo-64-c1000" && !strings.Contains(note, "allows 156 connections instead of 1000") {
			t.Errorf("%s: %q", s.Name, note)
		}
	}
}
