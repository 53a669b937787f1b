package codec_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// A server of lines that answers each line.
func Example() {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Shutdown(context.Background())
	lines, err := codec.New(codec.Line{}, &codec.Funcs[[]byte]{
		Message: func(c *conn.Conn, line []byte) {
			codec.Send(c, codec.Line{}, bytes.ToUpper(line))
		},
	}, codec.Config{Limit: 4096})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", lines, conn.Config{PauseOnFull: true})
	if err != nil {
		fmt.Println(err)
		return
	}

	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Fprint(client, "hello\r\nworld\n")
	for in := bufio.NewScanner(client); in.Scan(); {
		fmt.Println(in.Text())
		if in.Text() == "WORLD" {
			break
		}
	}
	// Output:
	// HELLO
	// WORLD
}

// Order is a message with a type.
type Order struct {
	Item string
	N    int
}

// JSONLine is messages of type M as JSON, one a line. The framing is that of
// another codec.
type JSONLine[M any] struct{ codec.Line }

func (j JSONLine[M]) Decode(packet []byte) (m M, err error) {
	err = json.Unmarshal(packet, &m)
	return m, err
}

func (j JSONLine[M]) Append(dst []byte, m M) ([]byte, error) {
	p, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return j.Line.Append(dst, p)
}

// A codec of one's own with messages of a type, on the framing of another.
func Example_typed() {
	var orders codec.Codec[Order] = JSONLine[Order]{}
	wire, _ := orders.Append(nil, Order{Item: "valve", N: 3})
	fmt.Printf("%q\n", wire)
	n, _ := orders.Split(wire, 0)
	order, _ := orders.Decode(wire[:n])
	fmt.Printf("%+v\n", order)
	// Output:
	// "{\"Item\":\"valve\",\"N\":3}\n"
	// {Item:valve N:3}
}

// Decimal is messages behind ten digits that are the length of the whole packet.
type Decimal struct{}

const decimalHead = 10

func (Decimal) Split(data []byte, _ int) (int, error) {
	if len(data) < decimalHead {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(data[:decimalHead]), 10, 32)
	if err != nil || n < decimalHead {
		return 0, fmt.Errorf("%w: %q", codec.ErrLength, data[:decimalHead])
	}
	return int(n), nil
}

func (Decimal) Decode(packet []byte) ([]byte, error) { return packet[decimalHead:], nil }

func (Decimal) Append(dst, m []byte) ([]byte, error) {
	return fmt.Appendf(dst, "%010d%s", decimalHead+len(m), m), nil
}

// A codec of one's own from the first byte.
func Example_custom() {
	wire, _ := Decimal{}.Append(nil, []byte("<order/>"))
	fmt.Printf("%s\n", wire)
	_, err := Decimal{}.Split([]byte("0000000009"), 0)
	fmt.Println(err)
	// Output:
	// 0000000018<order/>
	// codec: bad length: "0000000009"
}
