package ring

import (
	"fmt"
	"strings"

	"github.com/penstock-go/penstock/aio"
)

// features is a set of the things a kernel may have.
type features uint32

const (
	featSingleMmap features = 1 << iota
	featNoDrop
	featSubmitStable
	featFastPoll
	featExtArg
	featCQESkip
	featRegisterRingFDs
	featSubmitAll
	featMsgRing
	featCoopTaskrun
	featAcceptMultishot
	featBufferRing
	featSingleIssuer
	featRecvMultishot
	featSendZC
	featDeferTaskrun
	featSendmsgZC
	featSendZCReportUsage
	featNoIowait
	featRecvMultishotLimit
)

// featureNames is in the order of the bits: name and first kernel.
var featureNames = [...]aio.Feature{
	{Name: "single_mmap", Kernel: "5.4"},
	{Name: "nodrop", Kernel: "5.5"},
	{Name: "submit_stable", Kernel: "5.5"},
	{Name: "fast_poll", Kernel: "5.7"},
	{Name: "ext_arg", Kernel: "5.11"},
	{Name: "cqe_skip", Kernel: "5.17"},
	{Name: "register_ring_fds", Kernel: "5.18"},
	{Name: "submit_all", Kernel: "5.18"},
	{Name: "msg_ring", Kernel: "5.18"},
	{Name: "coop_taskrun", Kernel: "5.19"},
	{Name: "accept_multishot", Kernel: "5.19"},
	{Name: "buffer_ring", Kernel: "5.19"},
	{Name: "single_issuer", Kernel: "6.0"},
	{Name: "recv_multishot", Kernel: "6.0"},
	{Name: "send_zc", Kernel: "6.0"},
	{Name: "defer_taskrun", Kernel: "6.1"},
	{Name: "sendmsg_zc", Kernel: "6.1"},
	{Name: "send_zc_report_usage", Kernel: "6.2"},
	{Name: "no_iowait", Kernel: "6.15"},
	{Name: "recv_multishot_limit", Kernel: "6.17"},
}

// list returns the table with Have set for those in f.
func (f features) list() []aio.Feature {
	out := append([]aio.Feature(nil), featureNames[:]...)
	for i := range out {
		out[i].Have = f&(1<<i) != 0
	}
	return out
}

func parseFeatures(names []string) (features, error) {
	var f features
next:
	for _, name := range names {
		for i := range featureNames {
			if featureNames[i].Name == name {
				f |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("ring: no feature is called %q", name)
	}
	return f, nil
}

// missing says which of the features wanted a kernel does not have.
func missing(want features) error {
	var names []string
	kernel := ""
	for i, ft := range featureNames {
		if want&(1<<i) != 0 {
			names = append(names, ft.Name)
			kernel = ft.Kernel // the table is in the order of kernels
		}
	}
	return &UnavailableError{
		Op:    strings.Join(names, ", "),
		Cause: "the kernel does not have it",
		Cure:  "run Linux " + kernel + " or later",
	}
}
