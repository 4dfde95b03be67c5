// SPDX-License-Identifier: Apache-2.0
// clickhouse-jdbc at its defaults. A line a step: its name, ok or FAIL, what it saw.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

public class Client {
    interface Step { Object run() throws Exception; }

    static void step(String name, Step step) {
        try {
            System.out.println(name + "\tok\t" + String.valueOf(step.run()).replace('\n', ' '));
        } catch (Throwable error) {
            StringBuilder text = new StringBuilder(String.valueOf(error));
            for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) text.append(" <- ").append(cause);
            System.out.println(name + "\tFAIL\t" + text.toString().replace('\n', ' '));
        }
    }

    static void check(boolean good, Object seen) {
        if (!good) throw new AssertionError(seen);
    }

    static Object one(Connection connection, String query) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(query)) {
            rows.next();
            return rows.getObject(1);
        }
    }

    static int count(ResultSet rows) throws SQLException {
        try (rows) {
            int found = 0;
            while (rows.next()) found++;
            return found;
        }
    }

    static void gone(Connection connection, String mark) throws Exception {
        String running = "SELECT count() FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%" + mark + "%'";
        for (int i = 0; !String.valueOf(one(connection, running)).equals("0"); i++) {
            check(i < 100, "it still runs");
            Thread.sleep(100);
        }
    }

    static void running(Connection connection, String mark) throws Exception {
        String running = "SELECT count() FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%" + mark + "%'";
        for (int i = 0; String.valueOf(one(connection, running)).equals("0"); i++) {
            check(i < 100, "it does not run");
            Thread.sleep(100);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:clickhouse:" + arguments[0].replaceFirst("^http:", "") + "/ayaflow";
        Connection connection = DriverManager.getConnection(url, arguments[1], arguments[2]);
        Connection other = DriverManager.getConnection(url, arguments[1], arguments[2]);
        step("connect", () -> {
            check(connection.isValid(5), "isValid is false");
            return connection.getMetaData().getDatabaseProductVersion();
        });
        step("metadata", () -> {
            int tables = count(connection.getMetaData().getTables(null, "system", "%", null));
            int columns = count(connection.getMetaData().getColumns(null, "system", "tables", "%"));
            int schemas = count(connection.getMetaData().getSchemas());
            check(tables > 20 && columns > 20 && schemas >= 2, tables + " " + columns + " " + schemas);
            return tables + " tables";
        });
        step("query", () -> {
            Object found = one(connection, "SELECT toString(sum(number)) FROM numbers(1000)");
            check("499500".equals(found), found);
            return found;
        });
        step("parameters", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?, ?")) {
                statement.setInt(1, 5);
                statement.setString(2, "it's \\ ü");
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    check(rows.getInt(1) == 5 && "it's \\ ü".equals(rows.getString(2)), rows.getString(2));
                    return rows.getString(2);
                }
            }
        });
        step("insert", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("CREATE TABLE java (a UInt64, b String) ENGINE = MergeTree ORDER BY a");
            }
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO java (a, b) VALUES (?, ?)")) {
                for (int i = 0; i < 1000; i++) {
                    statement.setLong(1, i);
                    statement.setString(2, "x" + i);
                    statement.addBatch();
                }
                statement.executeBatch();
            }
            Object found = one(connection, "SELECT toString(count()) FROM java");
            check("1000".equals(found), found);
            return found;
        });
        step("500,000 rows", () -> {
            try (Statement statement = connection.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT number, toString(number) FROM numbers(500000)")) {
                long sum = 0, found = 0;
                for (; rows.next(); found++) sum += Long.parseLong(rows.getString(2)) - rows.getLong(1);
                check(found == 500_000 && sum == 0, found);
                return found;
            }
        });
        step("error", () -> {
            try {
                one(connection, "SELECT nosuch");
            } catch (SQLException error) {
                check(error.getMessage().contains("Code: 47."), error);
                return 47;
            }
            throw new AssertionError("no error");
        });
        step("mid-stream", () -> {
            int found = 0;
            try (Statement statement = connection.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT number, throwIf(number = 3000000, 'boom') FROM numbers(4000000)")) {
                while (rows.next()) found++;
            } catch (SQLException error) {
                StringBuilder text = new StringBuilder();
                for (Throwable cause = error; cause != null; cause = cause.getCause()) text.append(cause);
                check(text.indexOf("boom") >= 0, "after " + found + " rows: " + text);
                return "an error after " + found + " rows";
            }
            throw new AssertionError("no error, " + found + " rows");
        });
        step("cancel", () -> {
            Statement statement = connection.createStatement();
            Throwable[] failed = new Throwable[1];
            Thread canceller = new Thread(() -> {
                try {
                    running(other, "java_cancel");
                    statement.cancel();
                } catch (Throwable error) {
                    failed[0] = error;
                }
            });
            canceller.start();
            try {
                statement.executeQuery("SELECT 'java_cancel', count() FROM numbers(100000000000)");
                throw new AssertionError("it ended by itself");
            } catch (SQLException error) {
                canceller.join();
                if (failed[0] != null) throw new AssertionError(failed[0]);
                gone(other, "java_cancel");
                return "stopped";
            }
        });
        step("KILL", () -> {
            Thread killer = new Thread(() -> {
                try (Statement kill = other.createStatement()) {
                    running(other, "java_kill");
                    Object id = one(other, "SELECT query_id FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%java_kill%'");
                    kill.execute("KILL QUERY WHERE query_id = '" + id + "'");
                } catch (Throwable error) {
                    System.err.println(error);
                }
            });
            killer.start();
            try {
                one(connection, "SELECT 'java_kill', count() FROM numbers(100000000000)");
                throw new AssertionError("it ended by itself");
            } catch (SQLException error) {
                killer.join();
                check(error.getMessage().contains("Code: 394."), error);
                return 394;
            }
        });
        connection.close();
        other.close();
    }
}
