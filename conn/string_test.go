package conn_test

import (
	"fmt"
	"testing"

	"github.com/penstock-go/penstock/conn"
)

// TestNames holds what the values are called that programs print.
func TestNames(t *testing.T) {
	for v, want := range map[fmt.Stringer]string{
		conn.Queued:      "queued",
		conn.Full:        "full",
		conn.Rejected:    "rejected",
		conn.Closed:      "closed",
		conn.TooLong:     "too long",
		conn.TooLong + 1: "unknown",

		conn.Reject:     "reject",
		conn.CloseSlow:  "close slow",
		conn.DropOldest: "drop oldest",
		conn.Block:      "block",
		conn.Block + 1:  "unknown",

		conn.BudgetReject:    "reject",
		conn.BudgetClose:     "close",
		conn.BudgetClose + 1: "unknown",

		conn.Local:         "local",
		conn.Cancelled:     "cancelled",
		conn.Cancelled + 1: "unknown",
	} {
		if got := v.String(); got != want {
			t.Errorf("%T %d is called %q, want %q", v, v, got, want)
		}
	}
}
