//go:build nows

package subject

import "github.com/penstock-go/penstock/conn"

// webSocket knows no protocol: this is built with a library that has no ws.
func (s *server) webSocket(string) (conn.Handler, error) { return nil, nil }
