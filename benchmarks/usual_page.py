"""The peer of `benchmarks.page`: the same picture, made as Streamlit dashboards usually are.

Every run reads all bars with pd.read_sql, computes everything of all of them with pandas and
statsmodels, draws with st.plotly_chart, sleeps and starts again. It draws the same five rows of
600 bars and reads closes only, which is kinder than most.

streamlit run benchmarks/usual_page.py      with USUAL_DSN, and ?bar=60 or 1 in the address
"""

from __future__ import annotations

import os
import time

import numpy as np
import pandas as pd
import streamlit as st
from plotly.subplots import make_subplots
from sqlalchemy import create_engine
from statsmodels.tsa.stattools import adfuller

SHOWN, REFRESH_S = 600, 1.0
WINDOWS = {"60": (120, 480), "1": (120, 900)}

st.set_page_config("Usual", layout="wide")


@st.cache_resource
def engine_of(dsn: str):
    return create_engine(dsn)


def closes(symbol: str, bar: str) -> pd.Series:
    query = (
        "SELECT ts, close FROM v_bars WHERE venue = 'local' AND bar_s = %(bar)s"
        " AND symbol = %(symbol)s ORDER BY ts"
    )
    parameters = {"bar": int(bar), "symbol": symbol}
    return pd.read_sql(query, engine, params=parameters, index_col="ts")["close"]


started = time.monotonic()
engine = engine_of(os.environ["USUAL_DSN"].replace("postgresql://", "postgresql+psycopg2://"))
bar = st.query_params.get("bar", "60")
window, hedge_window = WINDOWS[bar]
frame = pd.concat({"y": closes("ETHUSDT", bar), "x": closes("BTCUSDT", bar)}, axis=1).dropna()
y, x = frame["y"], frame["x"]
beta = y.rolling(hedge_window).cov(x) / x.rolling(hedge_window).var()
alpha = y.rolling(hedge_window).mean() - beta * x.rolling(hedge_window).mean()
spread = y - alpha - beta * x
z = (spread - spread.rolling(window).mean()) / spread.rolling(window).std()
correlation = np.log(y).diff().rolling(window).corr(np.log(x).diff())
p_value = adfuller(spread.dropna().tail(SHOWN), maxlag=1, autolag=None)[1]

for column, (name, value) in zip(
    st.columns(6),
    {
        "ETHUSDT": y.iloc[-1],
        "BTCUSDT": x.iloc[-1],
        "β": beta.iloc[-1],
        "spread": spread.iloc[-1],
        "z": z.iloc[-1],
        "ADF p": p_value,
    }.items(),
    strict=True,
):
    column.metric(name, f"{value:,.4f}")
figure = make_subplots(rows=5, cols=1, shared_xaxes=True)
for row, lines in enumerate(
    [(y / y.iloc[-SHOWN] - 1, x / x.iloc[-SHOWN] - 1), (spread,), (z,), (beta,), (correlation,)]
):
    for line in lines:
        last = line.tail(SHOWN)
        figure.add_scatter(x=last.index, y=last, mode="lines", row=row + 1, col=1)
figure.update_layout(height=700, showlegend=False)
st.plotly_chart(figure)
st.session_state["runs"] = st.session_state.get("runs", 0) + 1
st.html(f'<p data-testid="runs">{st.session_state["runs"]}</p>')
# Without a pause the next run would begin before the picture of this one was sent.
time.sleep(max(0.2, REFRESH_S - (time.monotonic() - started)))
st.rerun()
