"""What is known of a synthetic record besides its signal: waves, criteria, pages, exports and stored pools."""
