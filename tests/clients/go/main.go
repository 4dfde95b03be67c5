// SPDX-License-Identifier: Apache-2.0

// clickhouse-go over HTTP at its defaults. A line a step: its name, ok or FAIL, what it saw.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

func step(name string, run func() (any, error)) {
	seen, err := run()
	if err != nil {
		fmt.Printf("%s\tFAIL\t%s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
	} else {
		fmt.Printf("%s\tok\t%v\n", name, seen)
	}
}

func code(err error, wanted int32) (any, error) {
	var said *clickhouse.Exception
	if errors.As(err, &said) && said.Code == wanted {
		return said.Code, nil
	}
	return nil, fmt.Errorf("not code %d: %v", wanted, err)
}

func main() {
	place, _ := url.Parse(os.Args[1])
	auth := clickhouse.Auth{Database: "ayaflow", Username: os.Args[2], Password: os.Args[3]}
	ctx := context.Background()
	open := func(compression *clickhouse.Compression) clickhouse.Conn {
		conn, err := clickhouse.Open(&clickhouse.Options{
			Addr: []string{place.Host}, Protocol: clickhouse.HTTP, Auth: auth, Compression: compression,
		})
		if err != nil {
			panic(err)
		}
		return conn
	}
	conn := open(nil)
	running := func(mark string) (found uint64, err error) {
		err = conn.QueryRow(ctx, "SELECT count() FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%"+mark+"%'").Scan(&found)
		return
	}
	wait := func(mark string, wanted uint64) error {
		for range 100 {
			found, err := running(mark)
			if err != nil || found == wanted {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return fmt.Errorf("not %d of %s", wanted, mark)
	}

	step("connect", func() (any, error) {
		version, err := conn.ServerVersion()
		if err != nil {
			return nil, err
		}
		for _, method := range []clickhouse.CompressionMethod{
			clickhouse.CompressionLZ4, clickhouse.CompressionZSTD, clickhouse.CompressionGZIP, clickhouse.CompressionBrotli, clickhouse.CompressionDeflate,
		} {
			packed := open(&clickhouse.Compression{Method: method, Level: 3})
			if err := packed.Ping(ctx); err != nil {
				return nil, fmt.Errorf("%v: %w", method, err)
			}
			packed.Close()
		}
		return version.Version.String(), conn.Ping(ctx)
	})
	step("metadata", func() (any, error) {
		rows, err := conn.Query(ctx, "SELECT name, type FROM system.columns WHERE database = 'system' AND table = 'tables'")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		found := 0
		for rows.Next() {
			found++
		}
		if found < 20 || len(rows.ColumnTypes()) != 2 {
			return nil, fmt.Errorf("%d columns", found)
		}
		return fmt.Sprintf("%d columns", found), rows.Err()
	})
	step("query", func() (any, error) {
		var number uint64
		var list []string
		var one map[string]uint64
		var low *string
		err := conn.QueryRow(ctx, "SELECT sum(number), ['a', 'b'], map('k', 1::UInt64), toLowCardinality(toNullable('x')) FROM numbers(1000)").Scan(&number, &list, &one, &low)
		if err == nil && (number != 499500 || len(list) != 2 || one["k"] != 1 || *low != "x") {
			err = fmt.Errorf("%v %v %v", number, list, one)
		}
		return number, err
	})
	step("parameters", func() (any, error) {
		var number uint64
		var text string
		named := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"x": "5"}))
		if err := conn.QueryRow(named, "SELECT {x:UInt64}").Scan(&number); err != nil {
			return nil, err
		}
		err := conn.QueryRow(ctx, "SELECT ?", `it's \ ü`).Scan(&text)
		if err == nil && (number != 5 || text != `it's \ ü`) {
			err = fmt.Errorf("%d %s", number, text)
		}
		return text, err
	})
	step("insert", func() (any, error) {
		if err := conn.Exec(ctx, "CREATE TABLE go (a UInt64, b String) ENGINE = MergeTree ORDER BY a"); err != nil {
			return nil, err
		}
		packed := open(&clickhouse.Compression{Method: clickhouse.CompressionLZ4})
		defer packed.Close()
		for _, each := range []clickhouse.Conn{conn, packed} {
			batch, err := each.PrepareBatch(ctx, "INSERT INTO go")
			if err != nil {
				return nil, err
			}
			for i := range 1000 {
				if err := batch.Append(uint64(i), "x"); err != nil {
					return nil, err
				}
			}
			if err := batch.Send(); err != nil {
				return nil, err
			}
		}
		db := sql.OpenDB(clickhouse.Connector(&clickhouse.Options{Addr: []string{place.Host}, Protocol: clickhouse.HTTP, Auth: auth}))
		defer db.Close()
		var found uint64
		err := db.QueryRow("SELECT count() FROM go").Scan(&found)
		if err == nil && found != 2000 {
			err = fmt.Errorf("%d rows", found)
		}
		return found, err
	})
	step("500,000 rows", func() (any, error) {
		rows, err := conn.Query(ctx, "SELECT number, toString(number) FROM numbers(500000)")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var number uint64
		var text string
		found := uint64(0)
		for ; rows.Next(); found++ {
			if err := rows.Scan(&number, &text); err != nil {
				return nil, err
			}
			if number != found || text != fmt.Sprint(found) {
				return nil, fmt.Errorf("%d %s at %d", number, text, found)
			}
		}
		if found != 500_000 {
			return nil, fmt.Errorf("%d rows", found)
		}
		return found, rows.Err()
	})
	step("error", func() (any, error) {
		var number uint64
		return code(conn.QueryRow(ctx, "SELECT nosuch").Scan(&number), 47)
	})
	step("mid-stream", func() (any, error) {
		rows, err := conn.Query(ctx, "SELECT number, throwIf(number = 3000000, 'boom') FROM numbers(4000000)")
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
		}
		return code(rows.Err(), 395)
	})
	step("cancel", func() (any, error) {
		short, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() {
			var number uint64
			ended <- conn.QueryRow(short, "SELECT count() FROM numbers(100000000000) WHERE 'go_cancel' != ''").Scan(&number)
		}()
		if err := wait("go_cancel", 1); err != nil {
			return nil, err
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return nil, fmt.Errorf("not cancelled: %v", err)
		}
		return "stopped", wait("go_cancel", 0)
	})
	step("KILL", func() (any, error) {
		ended := make(chan error)
		go func() {
			var number uint64
			named := clickhouse.Context(ctx, clickhouse.WithQueryID("go-kill"))
			ended <- conn.QueryRow(named, "SELECT count() FROM numbers(100000000000) WHERE 'go_kill' != ''").Scan(&number)
		}()
		if err := wait("go_kill", 1); err != nil {
			return nil, err
		}
		if err := conn.Exec(ctx, "KILL QUERY WHERE query_id = 'go-kill'"); err != nil {
			return nil, err
		}
		return code(<-ended, 394)
	})
	conn.Close()
}
