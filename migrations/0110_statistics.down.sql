drop function engine.analyze_grown();
