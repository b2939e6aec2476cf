"""What the months were like: /data/weather.csv, summed up by DuckDB, as a table in report.md."""

from pathlib import Path

import duckdb

months = duckdb.sql("""
    SELECT strftime(date, '%Y-%m') AS month, count(*) AS days, min(low_c), max(high_c), sum(rain_mm)
    FROM read_csv('/data/weather.csv') GROUP BY month ORDER BY month
""").fetchall()
lines = ["| month | days | coldest | warmest | rain |", "|---|---|---|---|---|"]
for month, days, low, high, rain in months:
    lines.append(f"| {month} | {days} | {low:.1f} °C | {high:.1f} °C | {rain:.1f} mm |")
Path("report.md").write_text("\n".join(lines) + "\n")
print(f"report.md: {len(months)} months of {sum(row[1] for row in months)} days, with DuckDB {duckdb.__version__}")
