package conn_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// A server of net/http over the loops of a group.
func ExampleNetListen() {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := conn.NetListen(group, "tcp", "127.0.0.1:0", conn.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "over a loop")
	})}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()

	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Printf("%s\n", body)

	http.DefaultClient.CloseIdleConnections()
	_ = srv.Shutdown(context.Background()) // First the server,
	_ = group.Shutdown(context.Background())
	fmt.Println(<-served) // then what it stands on.
	// Output:
	// over a loop
	// http: Server closed
}
