"""Tables of pages, all alike: numbers rounded by the unit in their column's name."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard.views.units import MISSING

FORMATS = {" ms": "%.1f", "/s": "%.1f", "USD": "%.6f", "share": "percent", "rows": "%.0f"}


def show(rows: Sequence[Mapping[str, str | float | None]]) -> None:
    """The unit that comes first in `FORMATS` counts; a column without one is left as it is."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: st.column_config.NumberColumn(format=form)
        for name in names
        if (form := next((form for unit, form in FORMATS.items() if unit in name), None))
    }
    st.dataframe(
        list(rows), hide_index=True, row_height=28, column_config=columns, placeholder=MISSING
    )
