package ws

import (
	"encoding/json"

	"github.com/penstock-go/penstock/conn"
)

// SendJSON sends v as a Text, and answers as Send does. The error is that of
// json.Marshal: nothing was sent then. While the queue refuses messages, v is not
// looked at.
func (c *Conn) SendJSON(v any) (conn.Status, error) {
	if s := c.admit(); s != conn.Queued {
		return s, nil
	}
	if s := c.conn.Admit(0); s != conn.Queued {
		return s, nil
	}
	p, err := json.Marshal(v)
	if err != nil {
		return conn.Rejected, err
	}
	return c.Send(Text, p), nil
}

// JSON reads a message into v, as json.Unmarshal does.
func (m *Message) JSON(v any) error { return json.Unmarshal(m.data, v) }
