package aiotest_test

import (
	"testing"

	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }
