"""A page that shows other people's words in every way that the dashboard does."""

from datetime import UTC

import streamlit as st

from dashboard import plots
from dashboard.ports import Series
from dashboard.theme import LIGHT
from dashboard.views.literal import escaped, one_line
from tests.dashboard.nasty import NASTY

LOOK = plots.Look(LIGHT, UTC)

for at, words in enumerate(NASTY):
    with st.container(key=f"words-{at}"):
        st.info(escaped(words))
        st.caption(escaped(words))
        st.markdown(f"**{escaped('Model ' + words)}**")
        st.metric(escaped(words), "1")
        st.text(one_line(words))
series = [Series(f"{words} {at}", (0.0, 60.0), (1.0, 2.0)) for at, words in enumerate(NASTY[:19])]
st.plotly_chart(plots.lines(LOOK, series, NASTY[0], NASTY[2], limits={NASTY[1]: 1.5}), theme=None)
groups = [f"{words} {at}" for at, words in enumerate(NASTY)]
bars = {NASTY[1]: [1.0] * len(groups)}
st.plotly_chart(plots.grouped_bars(LOOK, groups, bars, NASTY[-4], "of all"), theme=None)
