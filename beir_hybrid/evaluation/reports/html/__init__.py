"""What the HTML page of an evaluation is drawn with: its colours, heat maps, charts, template, style and script."""
