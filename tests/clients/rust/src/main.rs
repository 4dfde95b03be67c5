// SPDX-License-Identifier: Apache-2.0
//! clickhouse-rs at its defaults. A line a step: its name, ok or FAIL, what it saw.
use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, future::Future, time::Duration};

type Seen = Result<String, String>;

#[derive(Row, Serialize, Deserialize, Debug)]
struct Pair {
    a: u64,
    b: String,
}

async fn step(name: &str, run: impl Future<Output = Seen>) {
    match run.await {
        Ok(seen) => println!("{name}\tok\t{}", seen.replace('\n', " ")),
        Err(why) => println!("{name}\tFAIL\t{}", why.replace('\n', " ")),
    }
}

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

fn check(good: bool, seen: impl Debug) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("{seen:?}")) }
}

async fn wait(client: &Client, mark: &str, wanted: u64) -> Result<(), String> {
    let query = format!(
        "SELECT count() FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%{mark}%'"
    );
    for _ in 0..100 {
        if client.query(&query).fetch_one::<u64>().await.map_err(text)? == wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("not {wanted} of {mark}"))
}

fn with_code<T>(result: Result<T, clickhouse::error::Error>, code: u32) -> Seen {
    match result {
        Ok(_) => Err("no error".into()),
        Err(error) if format!("{error:?}").contains(&format!("Code: {code}.")) => Ok(code.to_string()),
        Err(error) => Err(text(error)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let given: Vec<String> = std::env::args().collect();
    let client = Client::default().with_url(&given[1]).with_user(&given[2]).with_password(&given[3]).with_database("ayaflow");
    let c = &client;

    step("connect", async { c.query("SELECT version()").fetch_one::<String>().await.map_err(text) }).await;
    step("metadata", async {
        let query = "SELECT name FROM system.columns WHERE database = 'system' AND table = 'tables'";
        let found = c.query(query).fetch_all::<String>().await.map_err(text)?;
        check(found.len() > 20, found.len())?;
        Ok(format!("{} columns", found.len()))
    })
    .await;
    step("query", async {
        let found = c.query("SELECT sum(number) FROM numbers(1000)").fetch_one::<u64>().await.map_err(text)?;
        check(found == 499_500, found)?;
        Ok(found.to_string())
    })
    .await;
    step("parameters", async {
        let wanted = "it's \\ ü";
        let bound = c.query("SELECT ?").bind(wanted).fetch_one::<String>().await.map_err(text)?;
        let named = c.query("SELECT {s:String}").param("s", wanted).fetch_one::<String>().await.map_err(text)?;
        check(bound == wanted && named == wanted, (&bound, &named))?;
        Ok(named)
    })
    .await;
    step("insert", async {
        let made = c.query("CREATE TABLE rust (a UInt64, b String) ENGINE = MergeTree ORDER BY a").execute().await;
        made.map_err(text)?;
        let mut insert = c.insert::<Pair>("rust").await.map_err(text)?;
        for a in 0..1000 {
            insert.write(&Pair { a, b: "x".into() }).await.map_err(text)?;
        }
        insert.end().await.map_err(text)?;
        let found = c.query("SELECT count() FROM rust").fetch_one::<u64>().await.map_err(text)?;
        check(found == 1000, found)?;
        Ok(found.to_string())
    })
    .await;
    step("500,000 rows", async {
        let mut rows = c
            .query("SELECT number AS a, toString(number) AS b FROM numbers(500000)")
            .fetch::<Pair>()
            .map_err(text)?;
        let mut found = 0;
        while let Some(row) = rows.next().await.map_err(text)? {
            check(row.b == row.a.to_string(), &row)?;
            found += 1;
        }
        check(found == 500_000, found)?;
        Ok(found.to_string())
    })
    .await;
    step("error", async { with_code(c.query("SELECT nosuch").fetch_one::<u64>().await, 47) }).await;
    step("mid-stream", async {
        let query = "SELECT number AS a, toString(throwIf(number = 3000000, 'boom')) AS b FROM numbers(4000000)";
        let mut rows = c.query(query).fetch::<Pair>().map_err(text)?;
        loop {
            match rows.next().await {
                Ok(Some(_)) => (),
                Ok(None) => return Err("no error".into()),
                Err(error) => return with_code::<()>(Err(error), 395),
            }
        }
    })
    .await;
    step("cancel", async {
        let asked = c.query("SELECT count() FROM numbers(100000000000) WHERE 'rust_cancel' != ''").fetch_one::<u64>();
        tokio::select! {
            ended = asked => return Err(format!("it ended: {ended:?}")),
            started = wait(c, "rust_cancel", 1) => started?,
        }
        wait(c, "rust_cancel", 0).await?;
        Ok("stopped".into())
    })
    .await;
    step("KILL", async {
        let named = c.clone().with_setting("query_id", "rust-kill");
        let asked = named.query("SELECT count() FROM numbers(100000000000) WHERE 'rust_kill' != ''").fetch_one::<u64>();
        let kill = async {
            wait(c, "rust_kill", 1).await?;
            c.query("KILL QUERY WHERE query_id = 'rust-kill'").execute().await.map_err(text)
        };
        let (ended, killed) = tokio::join!(asked, kill);
        killed?;
        with_code(ended, 394)
    })
    .await;
}
