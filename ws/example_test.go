package ws_test

import (
	"fmt"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// An echo: it reads no faster than the peer takes the answers.
func ExampleListen() {
	group, err := reactor.Start(reactor.Config{Loops: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	echo := &ws.Funcs{Message: func(c *ws.Conn, m *ws.Message) { c.SendReceived(m) }}
	_, listener, err := ws.Listen(group, "tcp", "127.0.0.1:0", echo,
		ws.Config{Deflate: &ws.Deflate{}}, conn.Config{PauseOnFull: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("serving on", listener.Addr().Network())
	// Output: serving on tcp
}
